"""Has the media changed since the champion was made? Statistics, the stored reference, and the page."""
