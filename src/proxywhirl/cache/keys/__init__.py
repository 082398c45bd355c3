"""The keys that seal stored credentials: made, sealed with, kept, changed.

- `sealing`: one Fernet token for each entry, bound to the entry and to the fingerprint of its key.
- `keyring`: where a key is kept that is not configured: the sealing key first, then the keys of an unfinished rotation.
- `keyset`: which key seals, which open, and which the stored credentials need. It keeps the notes of the keys.
- `rekey`: the rotation, which other processes may read and write through.

Each durable tier has a note for each key that something in it may be sealed with. Three rules keep every credential
readable while the key changes under processes that run:

1. A note is there before anything is sealed with its key (`KeyNotes.prepare`).
2. A writer looks for its key's note inside the transaction that seals (`KeyNotes.guard`). A rotation takes the note of
   the old key away before it looks for the last of what that key sealed, so nothing can come after it.
3. A process reads the keys before the notes, and again if the notes speak of an unknown key: a rotation keeps the new
   key first.
"""
