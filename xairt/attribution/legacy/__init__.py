"""Engines that run in a worker process: iNNvestigate, DeepLIFT and SHAP."""
