"""The experiments of the paper: one module per table and figure, and the training runs behind them."""
