/** What people call the protocols that the NAT carries. */

/** By IANA's numbers. */
export const protocolNumbers = {
  icmp: 1,
  ipip: 4,
  tcp: 6,
  udp: 17,
  '6in4': 41,
  gre: 47,
  esp: 50,
  sctp: 132,
} as const;

/** The name, or the number where there is none. */
export function protocolInWords(number: number): string {
  return names.get(number) ?? `${number}`;
}

/** @returns undefined for what is neither one of the names nor a number up to 255 */
export function parseProtocol(text: string): number | undefined {
  const number = numbers.get(text);
  if (number !== undefined || !/^(?:0|[1-9][0-9]{0,2})$/.test(text)) return number;
  return Number(text) > 255 ? undefined : Number(text);
}

const numbers: ReadonlyMap<string, number> = new Map(Object.entries(protocolNumbers));
const names: ReadonlyMap<number, string> = new Map(
  [...numbers].map(([name, number]) => [number, name]),
);
