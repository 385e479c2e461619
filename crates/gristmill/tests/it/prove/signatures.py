"""Says of each signature in a file whether the verifier takes it. signatures.py VERIFIER FILE"""

import importlib.util, json, sys

specification = importlib.util.spec_from_file_location("verify_proof", sys.argv[1])
verifier = importlib.util.module_from_spec(specification)
specification.loader.exec_module(verifier)
with open(sys.argv[2]) as file:
    vectors = [[bytes.fromhex(part) for part in vector] for vector in json.load(file)]
print(json.dumps([verifier.signature_holds(*vector) for vector in vectors]))
