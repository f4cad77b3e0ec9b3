"""Training: folders of images in, a patch and its report out."""
