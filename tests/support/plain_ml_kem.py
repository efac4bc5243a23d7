"""ML-KEM-768 as FIPS 203 writes it, in Python's integers: key generation, both directions.

Part of the second implementation; SHA-3 and SHAKE come from `hashlib`. Slow and not constant in
time: for tests only.
"""

import functools
import hashlib

Q, N, K = 3329, 256, 3
ETA, DU, DV = 2, 10, 4
CIPHERTEXT_BYTES, KEY_BYTES = 32 * (DU * K + DV), 384 * K + 32

Polynomial = list[int]


def reversed_bits(value: int) -> int:
    """The seven bits of `value` the other way round (FIPS 203, 4.3)."""
    return int(f"{value:07b}"[::-1], 2)


ZETAS = [pow(17, reversed_bits(i), Q) for i in range(128)]
GAMMAS = [pow(17, 2 * reversed_bits(i) + 1, Q) for i in range(128)]


def shake_256(content: bytes, size: int) -> bytes:
    return hashlib.shake_256(content).digest(size)


def hash_g(content: bytes) -> tuple[bytes, bytes]:
    both = hashlib.sha3_512(content).digest()
    return both[:32], both[32:]


def hash_h(content: bytes) -> bytes:
    return hashlib.sha3_256(content).digest()


def encode(values: list[int], bits: int) -> bytes:
    """ByteEncode_d, algorithm 5."""
    whole = sum(value << (bits * place) for place, value in enumerate(values))
    return whole.to_bytes(32 * bits, "little")


def decode(content: bytes, bits: int) -> Polynomial:
    """ByteDecode_d, algorithm 6."""
    whole = int.from_bytes(content, "little")
    values = [whole >> (bits * place) & (2**bits - 1) for place in range(N)]
    return [value % Q for value in values] if bits == 12 else values


def compress(values: list[int], bits: int) -> list[int]:
    """Equation 4.7; halves are rounded up, and Q is odd."""
    return [((value << (bits + 1)) + Q) // (2 * Q) % 2**bits for value in values]


def decompress(values: list[int], bits: int) -> Polynomial:
    """Equation 4.8."""
    return [(2 * Q * value + 2**bits) >> (bits + 1) for value in values]


def ntt(values: Polynomial) -> Polynomial:
    """Algorithm 9."""
    f, i, length = list(values), 1, 128
    while length >= 2:
        for start in range(0, N, 2 * length):
            zeta, i = ZETAS[i], i + 1
            for j in range(start, start + length):
                t = zeta * f[j + length] % Q
                f[j + length], f[j] = (f[j] - t) % Q, (f[j] + t) % Q
        length //= 2
    return f


def inverse_ntt(values: Polynomial) -> Polynomial:
    """Algorithm 10."""
    f, i, length = list(values), 127, 2
    while length <= 128:
        for start in range(0, N, 2 * length):
            zeta, i = ZETAS[i], i - 1
            for j in range(start, start + length):
                t = f[j]
                f[j], f[j + length] = (t + f[j + length]) % Q, zeta * (f[j + length] - t) % Q
        length *= 2
    return [value * 3303 % Q for value in f]


def multiply(f: Polynomial, g: Polynomial) -> Polynomial:
    """Algorithms 11 and 12."""
    h = [0] * N
    for i in range(128):
        a0, a1, b0, b1 = f[2 * i], f[2 * i + 1], g[2 * i], g[2 * i + 1]
        h[2 * i] = (a0 * b0 + a1 * b1 * GAMMAS[i]) % Q
        h[2 * i + 1] = (a0 * b1 + a1 * b0) % Q
    return h


def add(f: Polynomial, g: Polynomial) -> Polynomial:
    return [(a + b) % Q for a, b in zip(f, g, strict=True)]


def inner(left: list[Polynomial], right: list[Polynomial]) -> Polynomial:
    products = [multiply(a, b) for a, b in zip(left, right, strict=True)]
    return functools.reduce(add, products)


def sample_ntt(seed: bytes) -> Polynomial:
    """Algorithm 7; 1500 bytes are enough but for a chance below 2^-128."""
    stream, values = hashlib.shake_128(seed).digest(1500), []
    for i in range(0, 1500, 3):
        first = stream[i] + 256 * (stream[i + 1] % 16)
        second = stream[i + 1] // 16 + 16 * stream[i + 2]
        values += [value for value in (first, second) if value < Q]
    if len(values) < N:
        raise ValueError("the stream was too short")
    return values[:N]


def sample_cbd(seed: bytes, counter: int) -> Polynomial:
    """Algorithm 8 over the PRF of equation 4.3."""
    bits = int.from_bytes(shake_256(seed + bytes([counter]), 64 * ETA), "little")
    values = []
    for place in range(N):
        four = bits >> (4 * place) & 15
        values.append(((four & 1) + (four >> 1 & 1) - (four >> 2 & 1) - (four >> 3)) % Q)
    return values


def matrix(rho: bytes) -> list[list[Polynomial]]:
    return [[sample_ntt(rho + bytes([j, i])) for j in range(K)] for i in range(K)]


def key_pair(seed: bytes) -> tuple[bytes, bytes]:
    """ML-KEM.KeyGen_internal(d, z), algorithm 16: (encapsulation key, decapsulation key)."""
    d, z = seed[:32], seed[32:]
    rho, sigma = hash_g(d + bytes([K]))
    s = [ntt(sample_cbd(sigma, i)) for i in range(K)]
    e = [ntt(sample_cbd(sigma, K + i)) for i in range(K)]
    t = [add(inner(row, s), e[i]) for i, row in enumerate(matrix(rho))]
    public = b"".join(encode(each, 12) for each in t) + rho
    private = b"".join(encode(each, 12) for each in s)
    return public, private + public + hash_h(public) + z


def check_key(public: bytes) -> bool:
    """The checks of 7.2: the length, and every coefficient reduced."""
    if len(public) != KEY_BYTES:
        return False
    parts = [public[384 * i : 384 * (i + 1)] for i in range(K)]
    return all(encode(decode(part, 12), 12) == part for part in parts)


def encrypt(public: bytes, message: bytes, coins: bytes) -> bytes:
    """K-PKE.Encrypt, algorithm 14."""
    t = [decode(public[384 * i : 384 * (i + 1)], 12) for i in range(K)]
    a = matrix(public[384 * K :])
    y = [ntt(sample_cbd(coins, i)) for i in range(K)]
    columns = [[a[j][i] for j in range(K)] for i in range(K)]
    u = [
        add(inverse_ntt(inner(column, y)), sample_cbd(coins, K + i))
        for i, column in enumerate(columns)
    ]
    noise = add(sample_cbd(coins, 2 * K), decompress(decode(message, 1), 1))
    v = add(inverse_ntt(inner(t, y)), noise)
    first = b"".join(encode(compress(each, DU), DU) for each in u)
    return first + encode(compress(v, DV), DV)


def decrypt(private: bytes, ciphertext: bytes) -> bytes:
    """K-PKE.Decrypt, algorithm 15."""
    size = 32 * DU
    u = [decompress(decode(ciphertext[size * i : size * (i + 1)], DU), DU) for i in range(K)]
    v = decompress(decode(ciphertext[size * K :], DV), DV)
    s = [decode(private[384 * i : 384 * (i + 1)], 12) for i in range(K)]
    masked = inverse_ntt(inner(s, [ntt(each) for each in u]))
    w = [(a - b) % Q for a, b in zip(v, masked, strict=True)]
    return encode(compress(w, 1), 1)


def encapsulate(public: bytes, message: bytes) -> tuple[bytes, bytes]:
    """ML-KEM.Encaps_internal, algorithm 17: (shared secret, ciphertext)."""
    shared, coins = hash_g(message + hash_h(public))
    return shared, encrypt(public, message, coins)


def decapsulate(private: bytes, ciphertext: bytes) -> bytes:
    """ML-KEM.Decaps_internal, algorithm 18, with implicit rejection."""
    public = private[384 * K : 768 * K + 32]
    digest, z = private[768 * K + 32 : 768 * K + 64], private[768 * K + 64 :]
    message = decrypt(private[: 384 * K], ciphertext)
    shared, coins = hash_g(message + digest)
    if encrypt(public, message, coins) != ciphertext:
        return shake_256(z + ciphertext, 32)
    return shared
