"""PLACEMENT.md as a program. Reads vectors.json (the argument) and says how many cases agree."""
import json, sys
from decimal import Decimal, getcontext
from functools import cmp_to_key

getcontext().prec = 50
M = 2**64 - 1
G = 0x9E3779B97F4A7C15
T = [round(2**40 * (Decimal(1024 + i) / 1024).ln() / Decimal(2).ln()) for i in range(1025)]

def mix(z):
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & M
    z = (z ^ z >> 27) * 0x94D049BB133111EB & M
    return z ^ z >> 31

def digest(tag, data):
    h = mix(G * tag + len(data) & M)
    for at in range(0, len(data), 8):
        h = mix((h ^ int.from_bytes(data[at:at + 8], "little")) + G & M)
    return h

def distance(h):
    h |= 1
    w = h.bit_length() - 1
    h <<= 63 - w
    i, f = h >> 53 & 1023, h >> 21 & 0xFFFFFFFF
    return (64 << 40) - ((w << 40) + T[i] + ((T[i + 1] - T[i]) * f >> 32))

def before(a, b):
    (hash_a, weight_a, id_a), (hash_b, weight_b, id_b) = a, b
    if weight_a and weight_b:
        scores = distance(hash_a) * weight_b - distance(hash_b) * weight_a
    else:
        scores = (weight_a == 0) - (weight_b == 0)
    return scores or hash_b - hash_a or (id_a > id_b) - (id_a < id_b)

def ranked(key, hosts):
    k = digest(1, key.encode())
    of = [(mix(k ^ digest(2, host["id"].encode())), host["weight"], host["id"].encode()) for host in hosts]
    return [name.decode() for _, _, name in sorted(of, key=cmp_to_key(before))]

cases = json.load(open(sys.argv[1]))["cases"]
wrong = [case for case in cases if ranked(case["key"], case["hosts"]) != case["ranked"]]
print(f"{len(cases) - len(wrong)} of {len(cases)} agree", wrong[:1])
sys.exit(bool(wrong) or not cases)
