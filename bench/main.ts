// These make another library's kernels the choice of whoever set them; libtorch reads them when it is loaded, so they go first.
delete process.env["OPENBLAS_CORETYPE"];
delete process.env["OPENBLAS_L2_SIZE"];
const { runBench } = await import("./program.ts");
process.exitCode = await runBench(process.argv.slice(2));

export {};
