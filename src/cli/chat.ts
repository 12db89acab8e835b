import type { CommandSpec } from "../config/command.ts";
import { chatFields } from "./chat-config.ts";
import { exitCodes } from "./exit-codes.ts";

/** `tschat chat` */
export const chatCommand: CommandSpec = {
  name: "chat",
  summary: "talk with a model",
  description: "Talks with a model in the terminal. /clear forgets the conversation, /quit ends it, Ctrl-C stops an answer.",
  examples: [
    "tschat chat runs/first/ppo/model",
    "tschat chat path/to/base --adapter runs/lora/model/adapter",
    'tschat chat SmolLM2-135M-Instruct.gguf --temperature 0 --system "Answer in one sentence."',
  ],
  fields: chatFields,
  positional: "model",
  run: async (flags) => {
    const { flagLayer, resolve } = await import("../config/resolve.ts");
    const { fetchInputs } = await import("./hub-inputs.ts");
    const config = await fetchInputs(chatFields, resolve({ name: "chat", fields: chatFields }, [flagLayer(flags)]));
    const { chat } = await import("./chat-session.ts");
    await chat(config);
    return exitCodes.ok;
  },
};
