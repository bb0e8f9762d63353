"""What commands read: IMAGE arguments and tables of images and texts."""
