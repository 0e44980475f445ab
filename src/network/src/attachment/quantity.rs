//! Kubernetes quantities: `10M`, `1.5Gi`, `2e6`.

/// Parses a quantity that is not negative, rounded up to a whole number. `None` if it is not a
/// quantity or does not fit.
///
/// The grammar is that of Kubernetes' `resource.Quantity`: digits with an optional point, then
/// `n u m`, nothing, `k M G T P E`, `Ki` to `Ei`, or `e`/`E` and a decimal exponent.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // 18 digits on each side keep every product below within 128 bits.
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    if !number.contains(|character: char| character.is_ascii_digit())
        || fraction.contains('.')
        || whole.len() + fraction.len() > 18
    {
        return None;
    }
    let digits = format!("0{whole}{fraction}").parse::<u128>().ok()?;
    let scale = i32::try_from(fraction.len()).ok()?;
    let (binary, exponent) = multiplier(suffix)?;
    let value = digits.checked_mul(binary)?;
    let exponent = exponent - scale;
    let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
    let value = if exponent >= 0 {
        value.checked_mul(power)?
    } else {
        value.div_ceil(power)
    };
    u64::try_from(value).ok()
}

/// What the suffix stands for: a binary factor and a decimal exponent.
fn multiplier(suffix: &str) -> Option<(u128, i32)> {
    let decimal = |exponent| Some((1, exponent));
    let binary = |step: u32| Some((1 << (10 * step), 0));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let exponent: i32 = exponent.parse().ok()?;
            (-18..=18).contains(&exponent).then_some((1, exponent))
        }
    }
}
