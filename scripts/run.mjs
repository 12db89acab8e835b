// Every npm script is `node scripts/run.mjs TASK [arguments]`: it installs and builds what is missing, then starts the task on the
// project's own Node 24. This file and scripts/lib run before anything is installed, so they are plain JavaScript for Node 20.
if (Number(process.versions.node.split(".")[0]) < 20) {
  console.error(`[tschat] cannot start: this is Node ${process.versions.node}, at least 20 is needed; install it from https://nodejs.org`);
  process.exit(1);
}
void import("./lib/tasks.mjs").then(({ runTask }) => runTask(process.argv[2], process.argv.slice(3)));
