"""What each party can prove afterwards: a chained log, its Merkle tree and signed checkpoints."""
