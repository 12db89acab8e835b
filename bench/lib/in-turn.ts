/** Something that is measured in turn with others, one run at a time. */
export interface Contestant<Result, Name extends string = string> {
  /** Prefix of its columns. */
  readonly name: Name;
  /** One run in a process of its own. */
  readonly run: (turn: number) => Promise<Result>;
}

/** Ours and the others' results, entry i of each from turn i. */
export interface Turns<Ours, Theirs, Name extends string = string> {
  ours: Ours[];
  peers: { name: Name; results: Theirs[] }[];
}

/** Runs ours and the others in turn (A B C A B C), since the speed of a machine drifts. */
export async function inTurn<Ours, Theirs, Name extends string>(
  turns: number, ours: (turn: number) => Promise<Ours>, peers: readonly Contestant<Theirs, Name>[],
): Promise<Turns<Ours, Theirs, Name>> {
  const result: Turns<Ours, Theirs, Name> = { ours: [], peers: peers.map(({ name }) => ({ name, results: [] })) };
  for (let turn = 0; turn < turns; turn++) {
    result.ours.push(await ours(turn));
    for (const [p, peer] of peers.entries()) result.peers[p]?.results.push(await peer.run(turn));
  }
  return result;
}
