// Resolves a model in a process of its own and prints where it is: node resolve-process.ts org/name
import { resolveModel } from "../../src/hub/resolve.ts";

const onNote = (line: string): void => {
  process.stderr.write(`${line}\n`);
};
process.stdout.write(await resolveModel(process.argv[2] ?? "", { retryDelay: 1, onNote }));
