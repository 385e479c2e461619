"""Changes a proof file in every place, one at a time, and requires that the verifier notices.

    mutate.py VERIFIER FILE SEED
"""

import copy, importlib.util, json, random, sys, time

specification = importlib.util.spec_from_file_location("verify_proof", sys.argv[1])
verifier = importlib.util.module_from_spec(specification)
specification.loader.exec_module(verifier)
seed = int(sys.argv[3])
chance = random.Random(seed)
with open(sys.argv[2], "rb") as file:
    good = file.read()
document = json.loads(good)


def refused(data):
    try:
        for _ in verifier.verify(data):
            pass
    except Exception:
        return True
    return False


def spelled(value):
    return (json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n").encode()


def leaves(value, path=()):
    """Every place in the document, with its value."""
    yield path, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from leaves(child, (*path, key))


def other(letter, hexadecimal):
    return "0123456789abcdef"[(int(letter, 16) + chance.randrange(1, 16)) % 16] if hexadecimal else chr(ord(letter) ^ 1)


def changes(value):
    """The value, changed in one place, in every way that the kind of value has."""
    if isinstance(value, bool):
        yield "flipped", not value
    elif isinstance(value, int):
        yield "plus one", value + 1
    elif isinstance(value, str):
        hexadecimal = len(value) >= 64 and all(letter in "0123456789abcdef" for letter in value)
        yield "a space inside", value[:2] + " " + value[2:]
        for at, letter in enumerate(value):
            yield f"character {at}", value[:at] + other(letter, hexadecimal) + value[at + 1 :]
        yield "one character less", value[:-1]
        yield "one character more", value + "0"
    elif isinstance(value, list):
        for at in range(len(value)):
            yield f"without element {at}", value[:at] + value[at + 1 :]
        yield "one element more", [*value, 0]
    elif isinstance(value, dict):
        for name in value:
            yield f"without {name}", {key: child for key, child in value.items() if key != name}
        yield "one member more", {**value, "more": 0}
        # Without the exchange or its answer a file proves less, and says so.
        if value is not document["exchange"] and value is not (document["exchange"] or {}).get("answer"):
            yield "nothing", None
    else:
        yield "filled", {}


def replaced(path, value):
    if not path:
        return value
    changed = copy.deepcopy(document)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


started = time.monotonic()
assert good == spelled(document), "the file is not spelled as it should be"
assert not refused(good), "the unchanged file is refused"
slipped, places, tried = [], 0, 0
for path, value in leaves(document):
    places += 1
    for how, changed in changes(value):
        tried += 1
        if not refused(spelled(replaced(path, changed))):
            slipped.append(f"{'.'.join(map(str, path)) or 'the file'}: {how}")
flips = 200
for _ in range(flips):
    at, bits = chance.randrange(len(good)), chance.randrange(1, 256)
    if not refused(good[:at] + bytes([good[at] ^ bits]) + good[at + 1 :]):
        slipped.append(f"byte {at} xor {bits}")
print(f"{places} places, {tried} changes, {flips} flipped bytes (seed {seed}), {len(slipped)} slipped through,"
      f" {time.monotonic() - started:.1f} s")  # fmt: skip
for line in slipped:
    print(f"slipped through: {line}")
sys.exit(1 if slipped or tried < len(good) / 2 else 0)
