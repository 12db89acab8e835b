#!/usr/bin/env node
// Only this check may come before the imports: the libraries do not load on an older Node.
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < 22 || (major === 22 && minor < 13)) {
  process.stderr.write(`tschat needs Node 22.13 or newer, this is ${process.versions.node}: install it, e.g. from https://nodejs.org\n`);
  process.exitCode = 2;
} else {
  // The reader of a pipe may leave early, as in tschat --help | head.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    if (process.env["RANK"] !== undefined) process.stderr.write("training ends: the reader of standard output is gone\n");
    process.exit(1);
  });
  const { runCommandLine } = await import("./program.ts");
  process.exitCode = await runCommandLine(process.argv.slice(2));
}

export {};
