"""Vendors of proxies: how a session and a place are written into a credential, and what their refusals mean. All pure.

The stored username has one grammar for all vendors (`grammar`): `name,session=cart-17,country=de`. It tells identities
apart, and it is never sent.

| when | what happens | where |
|---|---|---|
| a line of an account becomes many identities | each gets a name that fits the vendor | `sessions.vendor_sessions` |
| a list holds a username with a wish | vendor and places are added to what is known | `sessions.recognised` |
| a connection is made | the vendor's credential is compiled from the username | `sessions.to_send` |
| the vendor's gateway refuses | its status and headers say who is to blame | `decoding` |

The vendors are data: a table of `providers.toml` each, which `provider` reads. A new vendor is a new table.
"""
