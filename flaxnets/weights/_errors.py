"""Error of weight files."""


class WeightsError(ValueError):
    """A weight file that is damaged, truncated, or has another format; the message names the file and the cause.

    >>> import pathlib, tempfile, flaxnets
    >>> from flaxnets.weights import load_weights
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "model.safetensors")
    ...     _ = path.write_bytes(b"")
    ...     try:
    ...         load_weights(flaxnets.create_model("mlp"), path)
    ...     except WeightsError as error:
    ...         print(str(error).partition("model.safetensors: ")[2])
    not an intact safetensors file: it has 0 bytes, too few for a header
    """
