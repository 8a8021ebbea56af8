"""Renders charts with the real Helm engine and checks what comes out against Kubernetes' schemas.

Reads a list of requests from standard input and writes a list of answers, both JSON. A request is an object:
`chart` (directory), `values`, `kube_version`, and `validate`, a list of versions whose schemas the result must fit.
An answer has `error`, or `lint`, `manifests` (text by template), `documents` (parsed, with their template) and
`invalid` (sentences).
"""

import json
import sys

import helm_python
import kubernetes_validate
import yaml
from helm_python import _native

# Custom resources have no schema in Kubernetes.
CUSTOM = ("monitoring.coreos.com/",)


def render(request, kube_version):
    options = {"name": "np", "namespace": "monitoring", "is_install": True, "kube_version": kube_version}
    with helm_python.Chart.load(request["chart"]) as chart:
        # The Python method has no parameter for the version of Kubernetes, the engine has.
        rendered = _native.call_string("helm_render", chart._raw(), json.dumps(request["values"]), json.dumps(options))
    manifests = {path.split("/", 1)[1]: text for path, text in json.loads(rendered).items()}
    documents = []
    for path, text in sorted(manifests.items()):
        if path.endswith(".yaml"):
            parsed = [document for document in yaml.safe_load_all(text) if document is not None]
            documents += [{"template": path, "document": document} for document in parsed]
    return manifests, documents


def answer(request):
    try:
        lint = helm_python.lint(request["chart"], request["values"], strict=True)
        manifests, documents = render(request, request["kube_version"])
    except helm_python.HelmError as error:
        return {"error": str(error)}
    invalid = []
    for version in request.get("validate", []):
        for entry in render(request, version + ".0")[1]:
            document = entry["document"]
            if document["apiVersion"].startswith(CUSTOM):
                continue
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except Exception as error:
                name = document["kind"] + " of " + entry["template"]
                # The rest is the schema.
                reason = str(error).splitlines()[0]
                invalid.append(f"{name} against Kubernetes {version}: {reason}")
    return {"lint": lint, "manifests": manifests, "documents": documents, "invalid": invalid}


json.dump([answer(request) for request in json.load(sys.stdin)], sys.stdout)
