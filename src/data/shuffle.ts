/** Words of the state of MT19937. */
const STATE_SIZE = 624;
const SHIFT_SIZE = 397;

/**
 * The numbers 0 to `size - 1` in the order of NumPy's `RandomState(seed).shuffle(arange(size))`, which DeepSpeed-Chat uses to
 * split and blend its data sets. The numbers are drawn by MT19937 (Matsumoto and Nishimura 1998, single-integer seeding).
 *
 *     shuffleIndices(1234, 10) // 7, 2, 9, 1, 0, 8, 4, 5, 6, 3
 *
 * @throws {RangeError} unless `seed` is a whole number in [0, 2^32 - 1] and `size` one in [0, 2^32 - 1]
 */
export function shuffleIndices(seed: number, size: number): Uint32Array {
  checkUint32("seed", seed);
  checkUint32("size", size);
  const next = mersenneTwister(seed);
  const order = Uint32Array.from({ length: size }, (_, i) => i);
  for (let i = size - 1; i > 0; i--) {
    const j = drawUpTo(i, next);
    const moved = order[i]!;
    order[i] = order[j]!;
    order[j] = moved;
  }
  return order;
}

/**
 * The order in which epoch `epoch` (from 0) visits `size` samples: `shuffleIndices` with a seed of its own,
 *
 *     (seed + (epoch + 1) * 0x9e3779b9) mod 2^32
 *
 * so no epoch repeats another, nor the shuffle that split or blended the data. DeepSpeed-Chat replays one order in every epoch.
 */
export function epochOrder(size: number, seed: number, epoch: number): Uint32Array {
  return shuffleIndices((seed + Math.imul(epoch + 1, 0x9e3779b9)) >>> 0, size);
}

/** A number in [0, `max`], `max` > 0: draws are cut to the bits that `max` needs, and those above `max` are thrown away. */
function drawUpTo(max: number, next: () => number): number {
  const mask = 0xffffffff >>> Math.clz32(max);
  for (;;) {
    const draw = (next() & mask) >>> 0;
    if (draw <= max) return draw;
  }
}

/** A generator of 32-bit unsigned numbers. */
function mersenneTwister(seed: number): () => number {
  const state = new Uint32Array(STATE_SIZE);
  state[0] = seed;
  for (let i = 1; i < STATE_SIZE; i++) {
    const previous = state[i - 1]!;
    state[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i;
  }
  let position = STATE_SIZE;
  return () => {
    if (position === STATE_SIZE) {
      twist(state);
      position = 0;
    }
    let y = state[position++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}

function twist(state: Uint32Array): void {
  for (let i = 0; i < STATE_SIZE; i++) {
    const y = (state[i]! & 0x80000000) | (state[(i + 1) % STATE_SIZE]! & 0x7fffffff);
    state[i] = state[(i + SHIFT_SIZE) % STATE_SIZE]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
  }
}

function checkUint32(name: string, value: number): void {
  if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
    throw new RangeError(`${name}: expected a whole number in [0, 4294967295], got ${value}`);
  }
}
