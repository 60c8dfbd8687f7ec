"""The music tagger: genres, moods and instruments of a clip, each with a probability."""
