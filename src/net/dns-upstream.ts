/** A resolver that questions are passed on to: by plain DNS, DNS over TLS, or DNS over HTTPS. */
import { parseDomainName } from './domain-name.ts';
import { formatIpAddress, type IpAddress, parseIpAddress } from './ip-address.ts';
import { parsePort } from './port-range.ts';

export type DnsUpstream =
  | { readonly transport: 'plain'; readonly host: IpAddress; readonly port: number }
  | { readonly transport: 'tls'; readonly host: IpAddress | string; readonly port: number }
  | {
      readonly transport: 'https';
      readonly host: IpAddress | string;
      readonly port: number;
      /** With its leading `/`. */
      readonly path: string;
    };

/** RFC 1035 §4.2, RFC 7858 §3.1, RFC 8484 §4.1. */
const defaultPorts = { plain: 53, tls: 853, https: 443 } as const;
/** The path of the examples in RFC 8484, which public resolvers share. */
const DEFAULT_PATH = '/dns-query';
const form = /^(?:(tls|https):\/\/)?(?:\[([^\]]*)\]|([^:/[\]]*))(?::([0-9]+))?(\/[^?#]*)?$/;
const pathForm = /^(\/[A-Za-z0-9._~-]+)+$/;

/**
 * Reads `198.51.100.53`, `198.51.100.53:5353`, `[2001:db8::53]:53`, `tls://dns.example.net`,
 * `https://dns.example.net/dns-query`. Plain ones are addresses, since nobody could look up their
 * name. A bare IPv6 address needs no brackets where there is no port.
 *
 * @returns undefined for everything else: other schemes, user names, queries, fragments
 */
export function parseDnsUpstream(text: string): DnsUpstream | undefined {
  const bare = parseIpAddress(text);
  if (bare !== undefined) return { transport: 'plain', host: bare, port: defaultPorts.plain };
  const [, scheme, bracketed, name, portText, path] = form.exec(text) ?? [];
  const transport = scheme === 'tls' || scheme === 'https' ? scheme : 'plain';
  const host = bracketed === undefined ? hostOf(name ?? '') : ipv6Of(bracketed);
  const port = portText === undefined ? defaultPorts[transport] : parsePort(portText);
  if (host === undefined || port === undefined) return undefined;
  if (transport === 'https') {
    const wanted = path === undefined || path === '/' ? DEFAULT_PATH : path;
    return pathForm.test(wanted) ? { transport, host, port, path: wanted } : undefined;
  }
  if (path !== undefined) return undefined;
  if (transport === 'tls') return { transport, host, port };
  return typeof host === 'string' ? undefined : { transport, host, port };
}

/** As {@link parseDnsUpstream}, for text that was checked before. @throws RangeError */
export function requireDnsUpstream(text: string): DnsUpstream {
  const upstream = parseDnsUpstream(text);
  if (upstream === undefined) throw new RangeError(`not a DNS upstream: ${JSON.stringify(text)}`);
  return upstream;
}

/** Without the port and path that are usual for the transport. */
export function formatDnsUpstream(upstream: DnsUpstream): string {
  const { transport, host, port } = upstream;
  const usual = port === defaultPorts[transport];
  const text = typeof host === 'string' ? host : formatIpAddress(host);
  const needsBrackets = text.includes(':') && !(usual && transport === 'plain');
  const authority = `${needsBrackets ? `[${text}]` : text}${usual ? '' : `:${port}`}`;
  if (upstream.transport === 'plain') return authority;
  return `${transport}://${authority}${upstream.transport === 'https' ? upstream.path : ''}`;
}

function hostOf(text: string): IpAddress | string | undefined {
  return parseIpAddress(text) ?? parseDomainName(text);
}

function ipv6Of(text: string): IpAddress | undefined {
  const address = parseIpAddress(text);
  return address?.family === 6 ? address : undefined;
}
