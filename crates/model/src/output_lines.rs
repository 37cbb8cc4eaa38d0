//! Reads what a program prints, in lines of a bounded length: a program that prints no newline does not fill the memory.

use std::io::{BufRead, BufReader, Read};

/// A longer line is split into several.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Calls `take` with each line, until the output is closed.
pub(crate) fn read_lines(output: impl Read, mut take: impl FnMut(String)) {
    let mut output = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        match output.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                take(String::from_utf8_lossy(&line).into_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::read_lines;

    #[test]
    fn long_lines_are_split() {
        let text = [b"a\n\n".as_slice(), &[b'x'; 100_000], b"\nlast"].concat();
        let mut lines = Vec::new();
        read_lines(&text[..], |line| lines.push(line.len()));
        assert_eq!(lines, [1, 0, 65_536, 34_464, 4]);
    }
}
