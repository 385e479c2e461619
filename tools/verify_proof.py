#!/usr/bin/env python3
"""Checks a file that `gristmill prove` wrote: from a prompt to the root of the ledger.

    python3 tools/verify_proof.py FILE [--chain LEDGER_ID] [--claim-only]

It shares no code with Gristmill and needs nothing but Python 3. It prints one line for each step, and
ends with 0 if the payment is proven, with 1 if it is not, and with 3 if all holds and you did not say
which ledger you trust. docs/proofs.md says what the steps prove.

  --chain LEDGER_ID  the ledger that you expect: 64 hexadecimal digits, from somebody that you trust.
                     Without it any ledger would do, and anybody can make one.
  --claim-only       be content if the claim is final, without proof that the ledger paid it. That is
                     all that can be proven once a lane was given up.
"""

import functools, hashlib, hmac, json, struct, sys, unicodedata

FORMAT = "gristmill/proof-file/v1"
EXCHANGE, ANSWER = ["request", "prompt_ids", "answer", "salt"], ["text", "ids"]
FILE = ["format", "id", "exchange", "quote", "voucher", "receipt", "settlement", "lane", "genesis"]


class Fail(Exception):
    """Something does not hold."""


def need(holds, what):
    if not holds:
        raise Fail(what)


def quoted(text):
    """The text's beginning, without characters that could change what a terminal shows around it."""
    plain = lambda c: f"\\u{{{ord(c):x}}}" if unicodedata.category(c)[0] == "C" else c
    return "".join(map(plain, json.dumps(text[:160], ensure_ascii=False)))


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


# --- ed25519, strict: RFC 8032, without small orders, second spellings of a point, and s >= L -------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
NEUTRAL = (0, 1, 1, 0)


def add(a, b):  # extended coordinates (x, y, z, t), complete
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * D * a[3] * b[3] % P, 2 * a[2] * b[2] % P
    e, f, g, h = f - e, h - g, h + g, f + e
    return e * f % P, g * h % P, f * g % P, e * h % P


def point(data, strict=True):
    """The point that the 32 bytes spell, or none."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= P and strict:
        return None
    y %= P
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square or (x == 0 and sign and strict):
        return None
    x = (P - x) % P if x & 1 != sign else x
    return x, y, 1, x * y % P


def small(a):
    for _ in range(3):
        a = add(a, a)
    return a[0] % P == 0 and (a[1] - a[2]) % P == 0


BASE = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


@functools.lru_cache(maxsize=1024)
def signature_holds(key, message, signature, strict=True):
    """Strict, as for artefacts; or else as the ledger's own consensus and admission take it (ZIP 215)."""
    a, r, s = point(key, strict), point(signature[:32], strict), int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or a is None or r is None or s >= L or (strict and (small(a) or small(r))):
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    minus = (P - a[0], a[1], 1, P - a[3])
    table, q = (None, BASE, minus, add(BASE, minus)), NEUTRAL
    for bit in range(252, -1, -1):
        q = add(q, q)
        which = (s >> bit & 1) | (k >> bit & 1) << 1
        q = add(q, table[which]) if which else q
    if strict:
        return (q[0] - r[0] * q[2]) % P == 0 and (q[1] - r[1] * q[2]) % P == 0
    return small(add(q, (P - r[0], r[1], 1, P - r[3])))


# --- reading: borsh (little endian) for our artefacts, the chain's own codec (big endian) -----------------


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        need(self.at + count <= len(self.data), "bytes that end too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size, order="little"):
        return int.from_bytes(self.take(size), order)

    def flag(self):
        flag = self.number(1)
        need(flag < 2, "a flag that is neither 0 nor 1")
        return flag

    def ids(self, count):
        return [self.take(32) for _ in range(count)]

    def text(self):
        return self.take(self.number(4)).decode()

    def some(self, read):
        return read() if self.flag() else None

    def list(self, read):
        return [read() for _ in range(self.number(4))]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 127) << shift
            if byte < 128:
                need((byte or not shift) and value < 2**64, "a number with two spellings")
                return value
            shift += 7

    def digests(self):
        return self.ids(self.varint())

    def signed(self, read):
        """A body with its bytes, and its signature."""
        start = self.at
        body = read(self)
        body["bytes"] = self.data[start : self.at]
        body["signature"] = self.take(64)
        return body


def whole(text, read):
    """Everything in these hexadecimal digits."""
    need(type(text) is str and set(text) <= set("0123456789abcdef"), "bytes are lower-case hexadecimal")
    reader = Reader(bytes.fromhex(text))
    value = read(reader)
    need(reader.at == len(reader.data), "bytes are left over")
    return value


def usage(r):  # input tokens, output tokens, milliseconds, requests
    return [r.number(8) for _ in range(4)]


def quote(r):
    chain, processor, receipt_key, model, issuer = r.ids(5)
    prices = [r.number(16) for _ in range(4)]
    r.take(32 + 4 * 4), r.number(1), r.number(8)  # tokenizer, limits, data policy, end of validity
    return dict(chain=chain, processor=processor, receipt_key=receipt_key, model=model, issuer=issuer,
                prices=prices, nonce_root=r.take(32), engine=r.text())  # fmt: skip


def claim(r):
    chain, channel, lane, seq = r.take(32), r.take(32), r.number(4), r.number(8)
    return dict(chain=chain, channel=channel, lane=lane, seq=seq, model=r.take(32), quote=r.take(32),
                usage=usage(r), amount=r.number(16))  # fmt: skip


def audit(r):
    prompt, output = r.ids(2)
    r.take(4 + 1 + 4 + 4), r.list(r.text)  # temperature, top k, top p, most tokens, stop texts
    consumer = r.take(32)
    nonce = r.some(lambda: dict(nonce=r.take(32), index=r.number(4), path=r.list(lambda: r.take(32))))
    need(r.number(1) < 4, "an unknown reason to end")
    return dict(prompt=prompt, output=output, consumer=consumer, nonce=nonce)


def receipt(r):
    chain, channel, lane, seq = r.take(32), r.take(32), r.number(4), r.number(8)
    voucher, model, of_quote = r.ids(3)
    return dict(chain=chain, channel=channel, lane=lane, seq=seq, voucher=voucher, model=model, quote=of_quote,
                usage=usage(r), spent=r.number(16), request=r.take(32), response=r.take(32), last=r.flag(),
                audit=r.some(lambda: audit(r)))  # fmt: skip


def settle_claim(r):
    lines, kind = r.list(lambda: r.take(32)), r.number(1)
    need(kind < 2, "a claim of an unknown kind")
    return dict(lines=lines, kind=kind, claim=r.signed(claim), receipt=r.some(lambda: r.signed(receipt)))


def settlement(r):
    chain, sender, _, _, kind = r.take(32), r.take(32), r.number(8), r.take(32), r.number(1)
    need(kind == 11, "the transaction is no settlement")
    terms = r.take(6 * 32 + 2 * 8)
    claims = r.list(lambda: settle_claim(r))
    r.some(lambda: (r.number(4), r.list(lambda: r.number(4))))
    names = ["chain", "payer", "payee", "issuer", "voucher_key", "receipt_key"]
    keys = {name: terms[32 * at : 32 * at + 32] for at, name in enumerate(names)}
    return dict(chain=chain, sender=sender, claims=claims, channel=sha256(b"gristmill/channel/v1", terms), terms=keys)


def lane(r):
    need(r.number(1) == 12, "the record is no lane's")
    record = dict(channel=r.take(32), lane=r.number(4), model=r.take(32), quote=r.take(32),
                  royalties=r.list(lambda: (r.take(32), r.number(2))), paid=r.number(16), seq=r.number(8), usage=usage(r))  # fmt: skip
    cap = lambda: (r.number(8), r.number(16), usage(r))
    r.some(lambda: (r.number(8), r.number(16), usage(r), r.some(cap), r.number(8), r.flag()))
    return record


def count(number, what):
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def validators(r):
    """The validators that a genesis names, in the order in which certificates count them."""
    r.text(), r.number(8), r.take(32)  # name, time, account of the fees
    r.list(lambda: (r.take(32), r.text(), r.take(32)))  # issuers
    r.list(lambda: r.take(32 + 32 + 16))  # balances
    keys = r.list(lambda: (r.take(32), r.some(r.text))[0])
    r.take(27 * 16 + 3 * 8 + 16 + 2 * 8 + 4 + 16)  # parameters: fees, times, amounts, newcomers
    need(len(set(keys)) == len(keys) > 0, "a genesis without validators")
    return sorted(keys)


def header(r):
    start = r.at
    epoch, _, _, _, _ = r.varint(), r.varint(), r.take(32), r.varint(), r.take(32)
    parent, height, time, _ = r.take(32), r.varint(), r.number(8, "big"), r.number(8, "big")
    committee, body, state, _ = r.ids(4)
    need(r.varint() < r.varint(), "an empty range")
    return dict(epoch=epoch, parent=parent, height=height, time=time, committee=committee, body=body, state=state,
                hash=sha256(b"gristmill/header/v1", r.data[start : r.at]))  # fmt: skip


def certificate(r):
    start = r.at
    epoch, _, _, block = r.varint(), r.varint(), r.varint(), r.take(32)
    proposal, count = r.data[start : r.at], r.number(8, "big")
    bits = int.from_bytes(r.take((count + 7) // 8), "little")
    need(bits < 1 << count, "signers that are no validators")
    signers = [at for at in range(count) if bits >> at & 1]
    need(r.varint() == len(signers), "as many signers as signatures")
    return dict(epoch=epoch, block=block, proposal=proposal, count=count,
                signatures=[(at, r.take(64)) for at in signers])  # fmt: skip


# --- what is checked --------------------------------------------------------------------------------------


def message(domain, body):
    return bytes([len(domain)]) + domain + body["bytes"]


def check_signature(what, domain, body, key, strict=True):
    need(signature_holds(key, message(domain, body), body["signature"], strict), f"the signature of the {what}")
    return sha256(message(domain, body))


def final_header(text, chain, committee):
    """The header in a finality proof, if a quorum of the committee signed it or a descendant of it."""
    first, later, proof = whole(text, lambda r: (header(r), [header(r) for _ in range(r.varint())], certificate(r)))
    last = first
    for block in later:
        need(block["parent"] == last["hash"] and block["height"] == last["height"] + 1, "the chain of headers")
        last = block
    need(proof["block"] == last["hash"], "the certificate is for another block")
    need(proof["epoch"] == last["epoch"] == 0, "the validators of later epochs are not known here")
    need(last["committee"] == sha256(b"gristmill/committee/v1", *committee), "the header announces other validators")
    quorum = len(committee) - (len(committee) - 1) // 3
    need(proof["count"] == len(committee) and len(proof["signatures"]) >= quorum, "too few validators signed")
    space = chain + b"_FINALIZE"
    for at, signature in proof["signatures"]:
        signed = bytes([len(space)]) + space + proof["proposal"]
        need(signature_holds(committee[at], signed, signature, strict=False), f"the signature of validator {at}")
    return first, f"{len(proof['signatures'])} of {count(len(committee), 'validator')}"


def check_inclusion(text, transaction, root):
    """A binary Merkle tree over the block's transactions; the last of an odd level is its own sibling."""
    at, count, path = whole(text, lambda r: (r.number(4, "big"), r.number(4, "big"), r.digests()))
    need(at < count, "a position behind the last transaction")
    node, width, path = sha256(struct.pack(">I", at), transaction), count, iter(path)
    while width > 1:
        sibling = next(path, b"") if at ^ 1 < width else node
        node = sha256(sibling, node) if at & 1 else sha256(node, sibling)
        at, width = at >> 1, (width + 1) >> 1
    need(next(path, None) is None and sha256(struct.pack(">I", count), node) == root, "the path to the body root")


def check_state(text, key, root):
    """The value of a key in the authenticated database: a mountain range over its operations, with a bitmap
    of those that are in force grafted on at the height of 256 leaves."""

    def proof(r):
        named, tag = r.take(32), r.number(1)
        need(named == key and tag == 0, "the proof is for another key")
        value = r.take(r.varint())
        at, chunk, leaves, inactive, digests = r.varint(), r.take(32), r.varint(), r.varint(), r.digests()
        return value, at, chunk, leaves, inactive, digests, r.some(lambda: r.take(32)), r.take(32), r.take(32)

    value, at, chunk, leaves, inactive, digests, partial, ops_root, next_key = whole(text, proof)
    need(at < leaves < 2**62 and len(value) < 2**14, "an operation behind the last")
    need(chunk[at % 256 // 8] >> at % 8 & 1, "the record is not in force any more")
    need((partial is None) == (leaves % 256 == 0), "the end of the bitmap")
    need(at >> 8 < leaves >> 8 or partial == sha256(chunk), "the chunk of the bitmap")
    length = bytes([len(value)]) if len(value) < 128 else bytes([len(value) & 127 | 128, len(value) >> 7])
    operation = b"\xd2" + key + length + value + next_key
    heights = [height for height in range(61, -1, -1) if leaves >> height & 1]
    start = before = 0
    while start + (1 << heights[before]) <= at:
        start, before = start + (1 << heights[before]), before + 1
    after = len(heights) - before - 1
    need(inactive <= len(heights), "more peaks than there are")
    folded = min(inactive, before)
    single = min(max(inactive - before - 1, 0), after)
    digests = iter(digests)
    left = [next(digests) for _ in range((folded > 0) + before - folded)]
    right = [next(digests) for _ in range(single + (after > single))]

    def climb(start, height):
        """The root of the subtree over the leaves from `start`."""
        place = struct.pack(">Q", 2 * start - bin(start).count("1") + (2 << height) - 2)
        if height == 0:
            return sha256(place, operation)
        middle = start + (1 << height - 1)
        if at < middle:
            node = climb(start, height - 1)
            node = sha256(place, node, next(digests))
        else:
            other = next(digests)
            node = sha256(place, other, climb(middle, height - 1))
        return sha256(chunk, node) if height == 8 else node

    peaks = left + [climb(start, heights[before])] + right
    need(next(digests, None) is None, "digests are left over")
    bag, peaks = peaks[0], peaks[1:]
    for _ in range(max(inactive - folded + (folded > 0) - 1, 0)):
        bag = sha256(bag, peaks.pop(0))
    if peaks:
        bag = sha256(bag, functools.reduce(lambda bag, peak: sha256(peak, bag), reversed(peaks)))
    split = struct.pack(">Q", inactive) if inactive else b""
    grafted = sha256(b"\0\1", struct.pack(">Q", leaves), split, bag)
    rest = struct.pack(">Q", leaves % 256) + partial if partial else b""
    need(sha256(ops_root, grafted, rest) == root, "the path to the state root")
    return value


def cost(prices, used):
    per_input, per_output, per_second, per_request = prices
    inputs, outputs, millis, requests = used
    total = 1000 * (per_input * inputs + per_output * outputs + per_request * requests) + per_second * millis
    return -(-total // 10**9)


def credits(grains):
    return f"{grains // 10**9}.{grains % 10**9:09}".rstrip("0").rstrip(".") + " credits"


def members(value, names, what):
    need(type(value) is dict and list(value) == names, f"{what} has the members {', '.join(names)}")
    return [value[name] for name in names]


def ids_bytes(ids):
    need(type(ids) is list and all(type(id) is int for id in ids), "tokens are a list of numbers")
    return struct.pack(f"<{len(ids)}I", *ids)


def check_nonce(root, leaf):
    at, node = leaf["index"], sha256(b"gristmill/nonce/leaf/v1", struct.pack("<I", leaf["index"]), leaf["nonce"])
    for sibling in leaf["path"]:
        pair = (sibling, node) if at & 1 else (node, sibling)
        node, at = sha256(b"gristmill/nonce/node/v1", *pair), at >> 1
    need(at == 0 and node == root, "the processor's nonce is not in the quote's tree")


def check_exchange(exchange, said, offer, quote_hash):
    """Request and answer are those that the receipt commits to."""
    committed = said["audit"]
    if exchange is None:
        yield "request and answer are not in the file: what was asked and answered is not proven"
        return
    need(committed is not None, "the receipt commits to no request")
    request, prompt_ids, answer, salt = members(exchange, EXCHANGE, "the exchange")
    salt, prompt = whole(salt, lambda r: r.take(32)), ids_bytes(prompt_ids)
    mac = lambda data: hmac.new(salt, data, "sha256").digest()
    need(mac(request.encode()) == said["request"], "the request is another one")
    need(mac(prompt) == committed["prompt"], "the prompt's tokens are others")
    yield f"the request and its {len(prompt_ids)} tokens are those of the receipt: {quoted(request)}"
    if answer is None:
        yield "the answer is not in the file (one that broke off never is): what was answered is not proven"
    else:
        text, ids = members(answer, ANSWER, "the answer")
        need(mac(text.encode()) == said["response"], "the answer is another one")
        need(mac(ids_bytes(ids)) == committed["output"], "the answer's tokens are others")
        yield f"the answer and its {len(ids)} tokens are those of the receipt: {quoted(text)}"
        inputs, outputs, millis, requests = said["usage"]
        earlier = [inputs - len(prompt_ids), outputs - len(ids), millis, requests - 1]
        need(min(earlier) >= 0, "more tokens than the receipt counts")
        if offer["prices"][2] == 0:
            price = said["spent"] - cost(offer["prices"], earlier)
            yield f"this request cost {credits(price)}: its tokens at the quote's prices"
    if committed["nonce"]:
        check_nonce(offer["nonce_root"], committed["nonce"])
        parts = [b"gristmill/seed/joint/v1", committed["nonce"]["nonce"], committed["consumer"], quote_hash]
    else:
        parts = [b"gristmill/seed/fixed/v1", committed["consumer"]]
    seed = sha256(*parts, hashlib.sha256(prompt).digest(), offer["model"])
    yield f"the draws came from the seed {seed.hex()}"


def verify(data, chain=None, claim_only=False):
    """Checks the bytes of a file, step by step; yields a line for each step. Raises if one does not hold."""
    text = data.decode()
    file = json.loads(text)
    need(text == json.dumps(file, separators=(",", ":"), ensure_ascii=False) + "\n", "the file has one spelling only")
    layout, id, exchange, offer, voucher, said, settled, paid, genesis = members(file, FILE, "the file")
    need(layout == FORMAT, f"the file is not of the format {FORMAT}")

    offer, voucher, said = (whole(offer, lambda r: r.signed(quote)), whole(voucher, lambda r: r.signed(claim)),
                            whole(said, lambda r: r.signed(receipt)))  # fmt: skip
    transaction, inclusion, finality = members(settled, ["transaction", "inclusion", "finality"], "the settlement")
    tx = whole(transaction, lambda r: r.signed(settlement))
    terms = tx["terms"]

    committee = whole(genesis, validators)
    ledger = sha256(b"gristmill/genesis/v1", bytes.fromhex(genesis))
    need(chain is None or chain == ledger.hex(), f"the file is about the ledger {ledger.hex()}, not {chain}")
    yield f"the genesis is that of the ledger {ledger.hex()}, with {count(len(committee), 'validator')}"

    quote_hash = check_signature("quote", b"gristmill/quote/v1", offer, terms["payee"])
    voucher_hash = check_signature("voucher", b"gristmill/voucher/v1", voucher, terms["voucher_key"])
    receipt_hash = check_signature("receipt", b"gristmill/receipt/v1", said, terms["receipt_key"])
    need(id == receipt_hash.hex(), "the receipt's id")
    about = dict(chain=ledger, channel=tx["channel"], lane=said["lane"], model=offer["model"], quote=quote_hash)
    same = lambda what, body: need(all(body[name] == value for name, value in about.items() if name in body),
                                   f"the {what} is about something else")  # fmt: skip
    need([offer["processor"], offer["receipt_key"], offer["issuer"], offer["chain"], terms["chain"]]
         == [terms["payee"], terms["receipt_key"], terms["issuer"], ledger, ledger], "the quote is another channel's")  # fmt: skip
    same("voucher", voucher), same("receipt", said)
    need(said["voucher"] == voucher_hash and said["seq"] == voucher["seq"], "the receipt answers another voucher")
    covered = all(most >= used for most, used in zip(voucher["usage"], said["usage"]))
    need(covered and said["spent"] <= voucher["amount"], "the receipt says more than the voucher promised")
    who = ", ".join(f"{name} {terms[name].hex()}" for name in ("payer", "payee", "issuer"))
    yield f"accounts, as the public keys that they are: {who}; the model is {offer['model'].hex()}"
    yield f"quote, voucher and receipt are signed, and belong together: channel {tx['channel'].hex()}"
    need(cost(offer["prices"], said["usage"]) == said["spent"], "the price of the usage")
    yield f"{credits(said['spent'])} were spent on lane {said['lane']} up to number {said['seq']}, at the quote's prices"
    yield from check_exchange(exchange, said, offer, quote_hash)

    need(tx["chain"] == ledger, "the transaction is another ledger's")
    check_signature("transaction", b"gristmill/tx/v1", tx, tx["sender"], strict=False)
    of_lane = [item for item in tx["claims"] if item["claim"]["lane"] == said["lane"]]
    need(len(of_lane) == 1, "the settlement has no claim on the lane")
    item = of_lane[0]
    claimed, cap = item["claim"], item["receipt"]
    kind = [b"gristmill/voucher/v1", b"gristmill/approval/v1"][item["kind"]]
    check_signature("claim", kind, claimed, terms["voucher_key"])
    same("claim", claimed)
    worth, through = claimed["amount"], claimed["seq"]
    if cap:
        check_signature("claim's receipt", b"gristmill/receipt/v1", cap, terms["receipt_key"])
        same("claim's receipt", cap)
        worth, through = min(worth, cap["spent"]), max(through, cap["seq"])
    need(through >= said["seq"] and worth >= said["spent"], "the settled claim does not reach the receipt")
    block, signers = final_header(finality, ledger, committee)
    check_inclusion(inclusion, sha256(b"gristmill/txid/v1", tx["bytes"] + tx["signature"]), block["body"])
    word = ["promised", "approved"][item["kind"]]
    yield f"the payer {word} {credits(worth)} at number {through}, and that claim is in block {block['height']}"
    yield f"block {block['height']}, {block['hash'].hex()}, is final: signed by {signers}"

    if paid is None:
        need(claim_only, "that the ledger paid is not in the file (its lane was given up); with --claim-only the claim is enough")
        yield "not proven: that the ledger paid the claim; its lane was given up before the file was made"
    else:
        state, finality = members(paid, ["state", "finality"], "the lane's proof")
        later, signers = final_header(finality, ledger, committee)
        key = sha256(b"\x0c", tx["channel"], struct.pack(">I", said["lane"]))
        reader = Reader(check_state(state, key, later["state"]))
        record = lane(reader)
        need(reader.at == len(reader.data), "bytes are left over")
        same("lane", record)
        need([line for line, _ in record["royalties"]] == item["lines"], "the lane pays other lines")
        need(later["height"] >= block["height"], "the lane is an earlier one")
        need(record["paid"] >= said["spent"], "the ledger paid less than the receipt says")
        yield (f"after block {later['height']}, signed by {signers}, the ledger had paid {credits(record['paid'])} on the lane, "
               f"{sum(part for _, part in record['royalties']) / 100:g} % of it in royalties")  # fmt: skip
    if chain is None:
        yield f"trusted: the validators in the file. Ask somebody whether the ledger is {ledger.hex()}, or give --chain"
    else:
        yield f"trusted: the validators that the genesis of the ledger {ledger.hex()} names, as you asked"


def main(arguments):
    try:
        options = [argument for argument in arguments if argument.startswith("--")]
        chain = arguments.pop(arguments.index("--chain") + 1) if "--chain" in options else None
        files = [argument for argument in arguments if not argument.startswith("--")]
        if len(files) != 1 or set(options) - {"--chain", "--claim-only"}:
            raise IndexError
    except IndexError:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        with open(files[0], "rb") as file:
            data = file.read()
        for line in verify(data, chain, "--claim-only" in options):
            print(f"ok    {line}")
    except Exception as error:  # whatever cannot be read does not hold
        unread = f"it is no proof file, or a part of it does not read ({type(error).__name__})"
        what = str(error) if isinstance(error, (Fail, OSError)) else unread
        print(f"FAIL  {what}")
        return 1
    what = "claim" if "--claim-only" in options else "payment"
    if chain is None:
        print(f"the {what} is proven only if that ledger is the one you mean: say which with --chain")
        return 3
    print(f"the {what} is proven")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
