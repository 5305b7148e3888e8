"""Pictures: figures, TensorBoard, the HTML reports."""
