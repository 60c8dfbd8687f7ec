"""Check the manifest with Great Expectations; a failed critical expectation stops the run."""

from components import stage
from components.settings import read_section
from components.tables import read_table
from components.validate.check import refuse_if_failed, validate
from components.validate.params import Validate


def main() -> None:
    """Run the stage."""
    args = stage.arguments(__doc__, "manifest", "quarantine", "annotated", "results", "docs", "verdict")
    params: Validate = read_section(Validate, "validate")
    args.verdict.unlink(missing_ok=True)
    tables = [read_table(path).to_pandas() for path in (args.manifest, args.quarantine, args.annotated)]
    with stage.atomic_folder(args.docs) as docs:
        results = validate(tables[0], tables[1], tables[2], params, docs)
    stage.write_json(args.results, results)
    refuse_if_failed(results, args.docs)
    stage.write_json(args.verdict, {"passed": True, "suite": results["suite"]})


if __name__ == "__main__":
    stage.run(main)
