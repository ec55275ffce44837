/// Noise, of which compression makes nothing smaller: the same for each length.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 88172645463325252u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(next).collect()
}
