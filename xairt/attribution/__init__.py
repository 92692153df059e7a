"""Attribution methods: registry, explainers, and the engines behind them."""
