"""Where media come from: a rendered demo, a folder, or an S3 prefix."""
