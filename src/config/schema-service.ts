/** Sections of the program itself: api and paths. */
import { listOf, oneOf, optional, section, text } from './schema-fields.ts';

const tlsSchema = section(
  {
    mode: oneOf(['self-signed', 'files', 'acme', 'off'], {
      description:
        'A certificate made here, one in files, one from an ACME service, or none (then only on ' +
        'loopback addresses).',
      default: 'self-signed',
    }),
    certificate: optional(
      text('file', { description: 'For `files`: the certificate with its chain, as PEM.' }),
    ),
    key: optional(text('file', { description: "For `files`: the certificate's key, as PEM." })),
    domains: optional(
      listOf(text('domain-name', { description: 'A name of this gateway.' }), {
        description: 'For `acme`: the names in the certificate.',
        minItems: 1,
        maxItems: 16,
      }),
    ),
  },
  { description: 'How connections to the API are encrypted.', default: {} },
);

export const apiSchema = section(
  {
    listen: listOf(text('endpoint', { description: 'An address of this machine, with a port.' }), {
      description: 'Where the API and the web page are served.',
      default: ['127.0.0.1:8443'],
      maxItems: 16,
    }),
    tls: tlsSchema,
    trustedProxies: listOf(text('prefix', { description: 'Addresses of a proxy.' }), {
      description: 'Proxies whose word about the client is believed.',
      default: [],
      maxItems: 64,
    }),
  },
  { description: 'The HTTP interface.', default: {} },
);

export const pathsSchema = section(
  {
    state: text('folder', {
      description: 'What the program learns: leases, devices, history.',
      default: '/var/lib/gatehouse',
    }),
    runtime: text('folder', {
      description: 'Sockets and locks of the running program.',
      default: '/run/gatehouse',
    }),
  },
  {
    description: 'Folders. Instances with folders of their own can share a machine.',
    default: {},
  },
);
