"""Installs, upgrades and removes releases with the real Helm engine.

Reads a request from standard input, a JSON object: `action` (`install`, `upgrade`, `uninstall`, `list`), `kubeconfig`,
`namespace`, and but for `list` `name`, `chart` and `values`. Writes what the engine returns, as JSON.
"""

import json
import sys

import helm_python

request = json.load(sys.stdin)
namespace = request["namespace"]
with helm_python.Config(kubeconfig_path=request["kubeconfig"], namespace=namespace) as config:
    match request["action"]:
        case "install":
            answer = config.install(
                request["chart"], request["name"], request["values"], namespace=namespace, create_namespace=True
            )
        case "upgrade":
            answer = config.upgrade(request["chart"], request["name"], request["values"], namespace=namespace)
        case "uninstall":
            answer = config.uninstall(request["name"])
        case "list":
            answer = config.list(all_states=True, all_namespaces=True)
        case action:
            sys.exit(f"no such action: {action}")
json.dump(answer, sys.stdout)
