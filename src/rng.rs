//! Random draws that can be replayed: addressed ChaCha streams, and MT19937 for mode `code`.
