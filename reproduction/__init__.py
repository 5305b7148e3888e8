"""The paper's experiments and the questions behind them, as resumable commands of a clone."""
