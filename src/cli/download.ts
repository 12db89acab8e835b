import type { CommandSpec } from "../config/command.ts";
import { downloadFields } from "./download-config.ts";
import { exitCodes } from "./exit-codes.ts";

/** `tschat download` */
export const downloadCommand: CommandSpec = {
  name: "download",
  summary: "fetch a model or a data set from the Hugging Face hub",
  description: `Brings a model or a data set into the cache that all of Hugging Face's tools share, and prints where it is: the folder or
.gguf file of a model, the files of a data set. Every command does that by itself when a setting names org/name; this
one is for doing it beforehand. Of a model only what is needed is fetched: configuration, tokenizer, weights in one format.`,
  examples: [
    "tschat download HuggingFaceTB/SmolLM2-135M-Instruct",
    "tschat download bartowski/Llama-3.2-1B-Instruct-GGUF:Q8_0",
    "tschat download Dahoas/rm-static --dataset",
    "tschat download openai/gsm8k@main:main/test --dataset",
  ],
  fields: downloadFields,
  positional: "id",
  run: async (flags) => {
    const { flagLayer, resolve } = await import("../config/resolve.ts");
    const { id, dataset } = resolve({ name: "download", fields: downloadFields }, [flagLayer(flags)]);
    const [{ hubEnvironment }, { requireHubId }, { fetchFromHub }, { showingDownloads }] = await Promise.all([
      import("../hub/environment.ts"), import("../hub/hub-id.ts"), import("../hub/resolve.ts"), import("./download-progress.ts"),
    ]);
    const { paths } = await showingDownloads(hubEnvironment(process.env).cacheFolder, (options) =>
      fetchFromHub(dataset ? "dataset" : "model", requireHubId(id), options));
    process.stdout.write(paths.map((path) => `${path}\n`).join(""));
    return exitCodes.ok;
  },
};
