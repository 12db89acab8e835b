import { hash } from "node:crypto";

/** Which texts have been seen, by 64 bits of their SHA-256: about 16 bytes a text, however long it is. */
export class SeenTexts {
  /** Two numbers of 32 bits a slot; both 0 where it is free. */
  #slots = new Uint32Array(2 * 1024);
  #size = 0;

  /** Whether `text` was added before; with 10 million texts the chance of a mistake is 1 in 370,000. */
  has(text: string): boolean {
    const [low, high] = fingerprint(text);
    return this.#slots[this.#find(low, high)] !== 0;
  }

  /** Adds `text`; false if it was there. */
  add(text: string): boolean {
    const [low, high] = fingerprint(text);
    const slot = this.#find(low, high);
    if (this.#slots[slot] !== 0) return false;
    this.#slots[slot] = low;
    this.#slots[slot + 1] = high;
    this.#size++;
    if (this.#size * 8 > this.#slots.length * 3) this.#grow();
    return true;
  }

  /** The slot that holds a fingerprint, or the free one where it belongs: open addressing, one step at a time. */
  #find(low: number, high: number): number {
    const length = this.#slots.length;
    let slot = (low * 2) % length;
    while (this.#slots[slot] !== 0 && (this.#slots[slot] !== low || this.#slots[slot + 1] !== high)) slot = (slot + 2) % length;
    return slot;
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Uint32Array(old.length * 2);
    for (let i = 0; i < old.length; i += 2) {
      const [low, high] = [old[i]!, old[i + 1]!];
      if (low === 0) continue;
      const slot = this.#find(low, high);
      this.#slots[slot] = low;
      this.#slots[slot + 1] = high;
    }
  }
}

/** The first number is never 0, which marks a free slot. */
function fingerprint(text: string): [number, number] {
  const bytes = hash("sha256", text, "buffer");
  return [bytes.readUInt32LE(0) || 1, bytes.readUInt32LE(4)];
}
