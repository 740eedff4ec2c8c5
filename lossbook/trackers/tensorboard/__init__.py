"""TensorBoard: the mirror and the source, and the event files of both."""
