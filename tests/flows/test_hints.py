"""Words of servers, as they were seen, and what is made of them."""

import pytest

from flows.registry.hints import hint, is_away


@pytest.mark.parametrize(
    ("words", "step"),
    [
        ("An error occurred (SignatureDoesNotMatch) when calling the PutObject operation", "see AWS_ACCESS_KEY_ID"),
        ("API request failed with error code 401 != 200. Response body: 'You are not authenticated.'", "see MLFLOW_TRACKING_USERNAME"),
        ("An error occurred (ServiceUnavailable) when calling the PutObject operation (reached max retries: 1)", "disk is full"),
        ("no such experiment", None),
    ],
)  # fmt: skip
def test_the_next_step_follows_from_the_cause(words: str, step: str | None) -> None:
    found = hint(words)
    assert found is None if step is None else step in str(found)


@pytest.mark.parametrize(
    ("words", "away"),
    [
        ('Could not connect to the endpoint URL: "http://127.0.0.1:9000/needledrop-mlflow"', True),
        ('Read timeout on endpoint URL: "http://127.0.0.1:9000/needledrop-mlflow/1"', True),
        ("An error occurred (404) when calling the HeadObject operation: Not Found", False),
        ("Model Version (name=needledrop, version=9) not found", False),
    ],
)
def test_a_store_that_is_away_is_not_one_that_lost_its_files(words: str, away: bool) -> None:
    assert is_away(words) is away
