//! Medians, for a mean of a few runs on a shared machine is the mean of its neighbours.

/// Of a few values; the mean of the two in the middle where their number is even.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(sorted.len() / 2 - 1)?, upper))
}

/// The value below which this share of the sorted ones lies.
pub(crate) fn quantile(sorted: &[u32], share: f64) -> Option<f64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place among a few million, between none and all"
    )]
    let at = (sorted.len() as f64 * share) as usize;
    sorted
        .get(at.min(sorted.len().checked_sub(1)?))
        .map(|value| f64::from(*value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found_whatever_the_order() {
        assert_eq!(None, median([]));
        assert_eq!(Some(2.0), median([3.0, 1.0, 2.0]));
        assert_eq!(Some(2.5), median([4.0, 1.0, 2.0, 3.0]));
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let sorted: Vec<u32> = (1..=100).collect();
        assert_eq!(Some(51.0), quantile(&sorted, 0.5));
        assert_eq!(Some(100.0), quantile(&sorted, 0.99));
        assert_eq!(Some(100.0), quantile(&sorted, 1.0));
        assert_eq!(None, quantile(&[], 0.5));
    }
}
