//! How busy this machine is.

use std::fs;

/// The load averages of the last 1, 5 and 15 minutes in hundredths, as the kernel tells them.
pub fn load_percent() -> Option<[u32; 3]> {
    parse(&fs::read_to_string("/proc/loadavg").ok()?)
}

fn parse(text: &str) -> Option<[u32; 3]> {
    let mut words = text.split(' ').map(|word| {
        let (whole, hundredths) = word.split_once('.')?;
        let hundredths: u32 = hundredths.parse().ok().filter(|part| *part < 100)?;
        whole
            .parse::<u32>()
            .ok()?
            .checked_mul(100)?
            .checked_add(hundredths)
    });
    Some([words.next()??, words.next()??, words.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_averages_are_read_to_the_hundredth() {
        assert_eq!(parse("0.54 12.03 0.00 2/93 19100\n"), Some([54, 1203, 0]));
        assert_eq!(parse("0.54 x"), None);
        assert!(load_percent().is_some());
    }
}
