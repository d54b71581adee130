/**
 * A first config for a machine: which interface leads to the internet, which ones to the network
 * inside, and what that network is called in numbers. Every choice is explained in the file, with
 * what was not chosen and why. The same facts in any order give the same text.
 */
import { parseConfig } from '../config/parse-config.ts';
import { renderFlow } from '../config/render-value.ts';
import { formatIpAddress, isLoopback, isUnspecified, parseIpAddress } from '../net/ip-address.ts';
import { chooseInsideInterfaces } from './choose-inside-interfaces.ts';
import { choosePrivateNetwork, type PrivateNetwork } from './choose-private-network.ts';
import { chooseWan, type WanChoice } from './choose-wan.ts';
import type { NetworkFacts } from './network-facts.ts';
import { printable } from './printable.ts';

export type ConfigProposal =
  /** `choices` are the sentences of the comments, for whoever does not look into the file. */
  | { readonly text: string; readonly choices: readonly string[]; readonly reason?: never }
  /** What is in the way, and what to do. */
  | { readonly text?: never; readonly reason: string };

export function planConfig(facts: NetworkFacts): ConfigProposal {
  const wan = chooseWan(facts);
  if (wan.interface === undefined) return { reason: wan.reason };
  const inside = chooseInsideInterfaces(facts, wan.interface);
  if (inside.interfaces === undefined) return { reason: inside.reason };
  const network = choosePrivateNetwork(facts);
  if (network.address === undefined) return { reason: network.reason };
  const resolvers = chooseResolvers(facts, wan);
  const sections = [
    wanSection(wan),
    networkSection(inside, network),
    resolvers.section,
    apiSection(network),
  ];
  const choices = [...wan.why, ...inside.why, ...network.why, ...resolvers.why];
  const host = printable(facts.hostname);
  const head = comment(
    [`A config for ${host}, proposed by looking at its network. Change what is wrong.`],
    0,
  );
  const text = `${head}version: 1\n\n${sections.join('\n')}`;
  const { problems } = parseConfig(text, { fileName: 'the proposal' });
  const [problem] = problems ?? [];
  if (problem === undefined) return { text, choices };
  // Something about the machine that the choices above do not know.
  const found = `${problem.line}: expected ${problem.expected}, found ${problem.found}`;
  return { reason: `No config fits this machine (line ${found}). Write one by hand.` };
}

function wanSection({ interface: name, address, gateway, why }: WanChoice): string {
  const lines = ['wan:', `  interface: ${renderFlow(name)}`, `  address: ${address}`];
  if (gateway !== undefined) lines.push(`  gateway: ${gateway}`);
  return `${comment(why, 0)}${lines.join('\n')}\n`;
}

interface InsideChoice {
  readonly networkName: string;
  readonly interfaces: readonly string[];
  readonly why: readonly string[];
}

function networkSection(inside: InsideChoice, network: PrivateNetwork): string {
  return [
    'networks:\n',
    comment(inside.why, 2),
    `  ${inside.networkName}:\n`,
    `    interfaces: ${renderFlow(inside.interfaces)}\n`,
    comment(network.why, 4),
    `    address: ${network.address}/${network.length}\n`,
    `    dhcp: { range: ${network.firstLeased}-${network.lastLeased}, lease: 12h }\n`,
  ].join('');
}

/** As the schema limits them. */
const UPSTREAMS_MAX = 16;

interface ResolverChoice {
  readonly section: string;
  readonly why: readonly string[];
}

function chooseResolvers({ resolvers }: NetworkFacts, { address }: WanChoice): ResolverChoice {
  const passedOver: string[] = [];
  const upstreams: string[] = [];
  for (const text of resolvers) {
    const resolver = parseIpAddress(text);
    if (resolver === undefined || isLoopback(resolver) || isUnspecified(resolver)) {
      passedOver.push(printable(text));
    } else if (!upstreams.includes(formatIpAddress(resolver))) {
      upstreams.push(formatIpAddress(resolver));
    }
  }
  upstreams.splice(UPSTREAMS_MAX);
  const others = [...new Set(passedOver)].slice(0, UPSTREAMS_MAX).join(', ');
  const passed =
    others === ''
      ? []
      : [`Not taken from there: ${others}, which only this machine itself can ask.`];
  const lines = ['dns:', `  upstreams: ${renderFlow(upstreams)}`, '  domain: lan'];
  const section = (why: readonly string[], body: readonly string[]) => ({
    section: `${comment(why, 0)}${body.join('\n')}\n`,
    why,
  });
  if (upstreams.length > 0) {
    const first = 'The resolvers are those that this machine itself asks (/etc/resolv.conf).';
    const dhcp = 'Take them out to use whatever the DHCP of the provider names.';
    return section([first, ...(address === 'dhcp' ? [dhcp] : []), ...passed], lines);
  }
  if (address === 'dhcp') {
    const why = 'This machine names no resolvers, so those that the DHCP of the provider names.';
    return section([why, ...passed], lines);
  }
  const why =
    'This machine names no resolvers and no DHCP will, so the gateway answers no questions until ' +
    'you name one here.';
  return section([why, ...passed], ['# dns: { upstreams: [ADDRESS], domain: lan }']);
}

const API_PORT = 8443;

function apiSection({ address }: PrivateNetwork): string {
  const why = 'The API and the web page: for the network inside and for this machine itself.';
  const listen = [`${address}:${API_PORT}`, `127.0.0.1:${API_PORT}`];
  return `${comment([why], 0)}api:\n  listen: ${renderFlow(listen)}\n`;
}

const COMMENT_COLUMNS_MAX = 98;

/** Sentences as lines of a comment; each begins a line. */
function comment(sentences: readonly string[], indent: number): string {
  const start = `${' '.repeat(indent)}#`;
  return sentences
    .flatMap((sentence) => {
      const lines = [start];
      for (const word of sentence.split(' ')) {
        const line = lines.at(-1) ?? '';
        if (line.length + 1 + word.length <= COMMENT_COLUMNS_MAX || line === start) {
          lines[lines.length - 1] = `${line} ${word}`;
        } else {
          lines.push(`${start} ${word}`);
        }
      }
      return lines;
    })
    .map((line) => `${line}\n`)
    .join('');
}
