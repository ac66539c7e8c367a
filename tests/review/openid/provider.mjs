// A certified provider of OpenID Connect (panva/node-oidc-provider) with the people of a test.
// node provider.mjs PORT PAGES SECRET PEOPLE: PAGES is the address of the pages, PEOPLE a JSON
// object of each person's claims by log-in.
import { Provider } from 'oidc-provider';

const [port, pages, secret, people] = process.argv.slice(2);
const claims = JSON.parse(people);
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: 'pages',
      client_secret: secret,
      redirect_uris: [`${pages}/login/openid/back`],
      post_logout_redirect_uris: [`${pages}/login`],
    },
  ],
  claims: { openid: ['sub'], profile: ['preferred_username', 'groups'] },
  cookies: { keys: ['of this test'] },
  // A log-in form of its own for any password.
  features: { devInteractions: { enabled: true } },
  findAccount: (_, login) => ({
    accountId: login,
    claims: () => ({ sub: login, ...claims[login] }),
  }),
  pkce: { required: () => true },
});
provider.listen(Number(port), '127.0.0.1', () => console.log('listening'));
