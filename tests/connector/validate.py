"""Two validators that know nothing of this project judge its descriptions.

    validate.py PACKAGE [DESCRIPTION...]

PACKAGE is a folder with `apiDefinition.swagger.json` (OpenAPI 2.0), each DESCRIPTION a file with OpenAPI 3.1.
"""

import json
import sys
from pathlib import Path

from openapi_spec_validator import OpenAPIV2SpecValidator, OpenAPIV31SpecValidator
from swagger_spec_validator import validator20


def faults(validator, document):
    """Every fault that openapi-spec-validator finds, with its place."""
    for fault in validator(document).iter_errors():
        yield f"{'/'.join(map(str, fault.absolute_path))}: {fault.message}"


def judge(path, version, validator):
    """Prints what is wrong with a file; says whether nothing is."""
    document = json.loads(path.read_text(encoding="utf-8"))
    found = list(faults(validator, document))
    if validator is OpenAPIV2SpecValidator:
        try:
            validator20.validate_spec(document, spec_url=path.resolve().as_uri())
        except Exception as fault:  # It has several kinds, and all mean the same.
            found.append(f"swagger-spec-validator: {fault}")
    for fault in found:
        print(f"{path.name}: {fault}", file=sys.stderr)
    if not found:
        print(f"{path.name}: OpenAPI {version}, {len(document['paths'])} paths, no fault")
    return not found


def main(package, *descriptions):
    verdicts = [judge(Path(package) / "apiDefinition.swagger.json", "2.0", OpenAPIV2SpecValidator)]
    verdicts += [judge(Path(description), "3.1", OpenAPIV31SpecValidator) for description in descriptions]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
