/** One turn of a conversation. */
export interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}
