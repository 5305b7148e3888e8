"""The checks that every bundled network makes of its constructor arguments."""


def check_network_arguments(
    name: str, num_classes: int, in_channels: int, image_size: int, min_image_size: int
) -> None:
    """Refuse arguments that would give a network without outputs, inputs or feature maps.

    Args:
        name: The network's class name, for the message.
        num_classes: Number of outputs.
        in_channels: Number of image channels.
        image_size: Side of the square images in pixels.
        min_image_size: Smallest side that leaves at least one position behind the last pooling.

    Raises:
        ValueError: If one of the arguments is too small; the message names it.
    """
    if num_classes < 1:
        raise ValueError(f"{name} needs at least one class, got num_classes={num_classes}")
    if in_channels < 1:
        raise ValueError(
            f"{name} needs at least one image channel, got in_channels={in_channels}: "
            "pass 1 for grey images, 3 for colour"
        )
    if image_size < min_image_size:
        raise ValueError(
            f"{name} needs images of at least {min_image_size} pixels a side, got "
            f"image_size={image_size}: enlarge the images or take another network"
        )
