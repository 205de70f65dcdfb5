"""What researchers log: scalars, images, histograms, media, configurations, names, and what is redacted in them."""
