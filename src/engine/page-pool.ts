/**
 * Numbers of equal pages, handed out with reference counts. What was given back last is handed out first, so that pages
 * which were never needed are never touched.
 *
 *     const pool = new PagePool(4);
 *     const pages = pool.allocate(2); // [0, 1]
 *     pool.share(pages);
 *     pool.release(pages);            // still in use
 *     pool.release(pages);            // numFree is 4 again
 */
export class PagePool {
  #numPages: number;
  /** References to each page handed out so far. */
  readonly #counts: number[] = [];
  /** Pages given back, the last one at the end. */
  readonly #returned: number[] = [];

  constructor(numPages: number) {
    this.#numPages = numPages;
  }

  get numPages(): number { return this.#numPages; }
  get numFree(): number { return this.#numPages - this.#counts.length + this.#returned.length; }
  get numUsed(): number { return this.#numPages - this.numFree; }

  /** More pages from now on; those in use keep their numbers. */
  grow(numPages: number): void {
    if (numPages < this.#numPages) throw new Error(`internal: a pool of ${this.#numPages} pages cannot shrink to ${numPages}`);
    this.#numPages = numPages;
  }

  /** Pages that nobody uses, one reference each; the caller has looked at `numFree`. */
  allocate(count: number): number[] {
    if (count > this.numFree) throw new Error(`internal: ${count} pages were asked for, ${this.numFree} are free`);
    return Array.from({ length: count }, () => {
      const page = this.#returned.pop() ?? this.#counts.length;
      this.#counts[page] = 1;
      return page;
    });
  }

  /** One more reference to each of these pages. */
  share(pages: readonly number[]): void {
    for (const page of pages) this.#counts[page] = this.#countOf(page) + 1;
  }

  /** One reference less; a page without references is free. */
  release(pages: readonly number[]): void {
    for (const page of pages) {
      const count = this.#countOf(page) - 1;
      this.#counts[page] = count;
      if (count === 0) this.#returned.push(page);
    }
  }

  #countOf(page: number): number {
    const count = this.#counts[page] ?? 0;
    if (count === 0) throw new Error(`internal: page ${page} is not in use`);
    return count;
  }
}
