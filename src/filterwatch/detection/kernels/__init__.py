"""What is compiled: one problem at a time, all in the processor's cache."""
