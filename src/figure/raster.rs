//! The PNG: plotters' bitmap backend with accurate text and lines, drawn larger and averaged down.

use super::font::Fonts;
use super::text::{self, Turn};
use super::theme::UNITS;
use crate::{Error, Result};
use ab_glyph::{Font, PxScale, point};
use plotters::prelude::BitMapBackend;
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind};

/// How finely a figure is drawn before it is averaged down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fineness {
    /// Pixels of the PNG in a pixel of the figure.
    scale: usize,
    /// Pixels of the bitmap in a backend unit.
    zoom: usize,
    /// Pixels of the bitmap, in each direction, that are averaged to one of the PNG: 2 or 4.
    samples: usize,
}

impl Fineness {
    /// For a PNG with `scale` times as many pixels in each direction as the figure: at least two samples in each, at the least cost.
    ///
    /// # Errors
    /// [`Error::Figure`] if the scale is none of 1, 2, 3, 4, 6, 8.
    pub fn of(scale: u32) -> Result<Self> {
        let (zoom, samples) = match scale {
            1 => (1, 4),
            2 => (1, 2),
            3 => (3, 4),
            4 => (2, 2),
            6 => (3, 2),
            8 => (4, 2),
            _ => return Err(Error::Figure(format!("a PNG is 1, 2, 3, 4, 6 or 8 times as large as the figure, not {scale}"))),
        };
        Ok(Self { scale: scale as usize, zoom, samples })
    }

    /// Pixels of the bitmap in a backend unit.
    pub fn zoom(self) -> f64 {
        self.zoom as f64
    }

    /// Bytes of the pixel buffer of a figure of `size` pixels.
    pub fn buffer_len(self, (width, height): (u32, u32)) -> usize {
        let units = UNITS as usize * self.zoom;
        width as usize * units * height as usize * units * 3
    }
}

/// A bitmap backend. plotters' own text has its glyphs at whole pixels without their side bearings, and its thick lines have spikes
/// at sharp corners; these two are drawn here.
pub struct Raster<'a> {
    bitmap: BitMapBackend<'a>,
    fonts: &'static Fonts,
    zoom: i32,
}

type Fault<'a> = <BitMapBackend<'a> as DrawingBackend>::ErrorType;
type Drawn<'a> = std::result::Result<(), DrawingErrorKind<Fault<'a>>>;

impl<'a> Raster<'a> {
    /// A backend over `buffer`, which must hold [`Fineness::buffer_len`] bytes.
    ///
    /// # Errors
    /// [`Error::Figure`] if the buffer is too small.
    pub fn new(buffer: &'a mut [u8], size: (u32, u32), fineness: Fineness, fonts: &'static Fonts) -> Result<Self> {
        let units = UNITS as u32 * fineness.zoom as u32;
        let bitmap = BitMapBackend::with_buffer_and_format(buffer, (size.0 * units, size.1 * units))
            .map_err(|e| Error::Figure(format!("no bitmap of {} × {} pixels: {e}", size.0, size.1)))?;
        Ok(Self { bitmap, fonts, zoom: fineness.zoom as i32 })
    }

    /// A place in the bitmap.
    fn zoomed(&self, (x, y): BackendCoord) -> BackendCoord {
        (x * self.zoom, y * self.zoom)
    }

    /// Fills the inside (even-odd) of a polygon, sampled at the centres of pixels.
    fn scan(&mut self, points: &[(f64, f64)], color: BackendColor) -> Drawn<'a> {
        let height = f64::from(self.bitmap.get_size().1);
        let top = points.iter().fold(height, |m, p| m.min(p.1)).max(0.0) as i32;
        let bottom = points.iter().fold(0.0, |m: f64, p| m.max(p.1)).min(height).ceil() as i32;
        let mut crossings = Vec::new();
        for row in top..bottom {
            let y = f64::from(row) + 0.5;
            crossings.clear();
            for (a, b) in points.iter().zip(points.iter().cycle().skip(1)) {
                if (a.1 <= y) != (b.1 <= y) {
                    crossings.push(a.0 + (b.0 - a.0) * (y - a.1) / (b.1 - a.1));
                }
            }
            crossings.sort_by(f64::total_cmp);
            for span in crossings.chunks_exact(2) {
                let (from, to) = ((span[0] - 0.5).ceil() as i32, (span[1] - 0.5).ceil() as i32);
                if from < to {
                    self.bitmap.draw_rect((from, row), (to, row + 1), &color, true)?;
                }
            }
        }
        Ok(())
    }

    fn disc(&mut self, (x, y): BackendCoord, radius: f64, color: BackendColor) -> Drawn<'a> {
        let sides = (radius * 3.0).clamp(12.0, 64.0) as usize;
        let points: Vec<_> = (0..sides)
            .map(|i| {
                let (sin, cos) = (std::f64::consts::TAU * i as f64 / sides as f64).sin_cos();
                (f64::from(x) + radius * cos, f64::from(y) + radius * sin)
            })
            .collect();
        self.scan(&points, color)
    }
}

impl<'a> DrawingBackend for Raster<'a> {
    type ErrorType = Fault<'a>;

    fn get_size(&self) -> (u32, u32) {
        let (width, height) = self.bitmap.get_size();
        (width / self.zoom as u32, height / self.zoom as u32)
    }

    fn ensure_prepared(&mut self) -> Drawn<'a> {
        self.bitmap.ensure_prepared()
    }

    fn present(&mut self) -> Drawn<'a> {
        self.bitmap.present()
    }

    fn draw_pixel(&mut self, at: BackendCoord, color: BackendColor) -> Drawn<'a> {
        self.draw_rect(at, (at.0 + 1, at.1 + 1), &color, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn<'a> {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S, fill: bool) -> Drawn<'a> {
        if fill {
            // plotters fills to the end itself: to the last pixel of the last unit.
            let (from, to) = (self.zoomed(from), self.zoomed(to));
            return self.bitmap.draw_rect(from, to, style, true);
        }
        self.draw_path([from, (to.0, from.1), to, (from.0, to.1), from], style)
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn<'a> {
        let points: Vec<_> = path.into_iter().map(|point| self.zoomed(point)).collect();
        let (color, half) = (style.color(), f64::from(style.stroke_width()) * f64::from(self.zoom) / 2.0);
        for pair in points.windows(2) {
            let [(ax, ay), (bx, by)] = [pair[0], pair[1]].map(|(x, y)| (f64::from(x), f64::from(y)));
            let length = (bx - ax).hypot(by - ay);
            if length > 0.0 {
                let (nx, ny) = ((ay - by) / length * half, (bx - ax) / length * half);
                self.scan(&[(ax + nx, ay + ny), (bx + nx, by + ny), (bx - nx, by - ny), (ax - nx, ay - ny)], color)?;
            }
        }
        // Round joins and ends, as in the SVG.
        for &point in &points {
            self.disc(point, half, color)?;
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(&mut self, at: BackendCoord, radius: u32, style: &S, fill: bool) -> Drawn<'a> {
        let (at, radius) = (self.zoomed(at), radius * self.zoom as u32);
        if fill { self.disc(at, f64::from(radius), style.color()) } else { self.bitmap.draw_circle(at, radius, style, false) }
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, vertices: I, style: &S) -> Drawn<'a> {
        let zoomed = vertices.into_iter().map(|vertex| self.zoomed(vertex));
        let points: Vec<_> = zoomed.map(|(x, y)| (f64::from(x), f64::from(y))).collect();
        self.scan(&points, style.color())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn<'a> {
        let mut line = text::lay_out(self.fonts, text, style);
        let zoom = f64::from(self.zoom);
        (line.size, line.offset) = (line.size * zoom, (line.offset.0 * zoom, line.offset.1 * zoom));
        let (x, y) = self.zoomed((x, y));
        let face = self.fonts.face(line.weight);
        // ab_glyph measures a scale from ascent to descent, not in ems.
        let scale = PxScale::from((line.size * f64::from(face.font.height_unscaled()) / face.units) as f32);
        let color = style.color();
        let turned = line.turn != Turn::None;
        for (glyph, pen) in face.glyphs(text) {
            let start = point((line.offset.0 + pen * line.size / face.units) as f32, line.offset.1 as f32);
            let Some(outlined) = face.font.outline_glyph(glyph.with_scale_and_position(scale, start)) else { continue };
            let corner = outlined.px_bounds().min;
            let mut covered = Vec::new();
            outlined.draw(|column, row, coverage| {
                if coverage > 0.0 {
                    covered.push((column as i32 + corner.x as i32, row as i32 + corner.y as i32, coverage.min(1.0)));
                }
            });
            for (column, row, coverage) in covered {
                // A pixel is a square: turning its corner would move it by one.
                let (dx, dy) = if turned {
                    let (cx, cy) = line.turn.apply((2 * column + 1, 2 * row + 1));
                    ((cx - 1).div_euclid(2), (cy - 1).div_euclid(2))
                } else {
                    (column, row)
                };
                let color = BackendColor { alpha: color.alpha * f64::from(coverage), rgb: color.rgb };
                self.bitmap.draw_pixel((x + dx, y + dy), color)?;
            }
        }
        Ok(())
    }
}

/// The PNG file of a buffer that a [`Raster`] of `size` drew to.
///
/// # Errors
/// [`Error::Figure`] if the encoder fails.
pub fn encode(buffer: &[u8], (width, height): (u32, u32), fineness: Fineness) -> Result<Vec<u8>> {
    let Fineness { scale, samples, .. } = fineness;
    let (columns, rows) = (width as usize * scale, height as usize * scale);
    let pixels = if samples == 2 { averaged::<2>(buffer, columns, rows) } else { averaged::<4>(buffer, columns, rows) };
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, columns as u32, rows as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // A pixel of the figure is a 96th of an inch, as in CSS: a document then shows both formats in the same size.
    let per_meter = (96.0 * scale as f64 / 0.0254).round() as u32;
    encoder.set_pixel_dims(Some(png::PixelDimensions { xppu: per_meter, yppu: per_meter, unit: png::Unit::Meter }));
    let failed = |e: png::EncodingError| Error::Figure(format!("cannot encode the PNG: {e}"));
    encoder.write_header().and_then(|mut w| w.write_image_data(&pixels)).map_err(failed)?;
    Ok(file)
}

/// Every square of `SAMPLES` × `SAMPLES` pixels as one. Their number is a power of two, and the sum of 16 bytes fits into 16 bits.
fn averaged<const SAMPLES: usize>(buffer: &[u8], columns: usize, rows: usize) -> Vec<u8> {
    const WHITE: u8 = 255;
    let stride = columns * SAMPLES * 3;
    let (half, shift) = ((SAMPLES * SAMPLES / 2) as u16, (SAMPLES * SAMPLES).trailing_zeros());
    let mut pixels = vec![WHITE; columns * rows * 3];
    let mut sums = vec![0u16; columns * 3];
    for (band, row) in buffer.chunks_exact(stride * SAMPLES).zip(pixels.chunks_exact_mut(columns * 3)) {
        // Most of a figure is paper.
        if band.iter().all(|&byte| byte == WHITE) {
            continue;
        }
        sums.fill(0);
        for line in band.chunks_exact(stride) {
            for (sum, group) in sums.chunks_exact_mut(3).zip(line.chunks_exact(3 * SAMPLES)) {
                for sample in 0..SAMPLES {
                    for channel in 0..3 {
                        sum[channel] += u16::from(group[3 * sample + channel]);
                    }
                }
            }
        }
        for (pixel, sum) in row.iter_mut().zip(&sums) {
            *pixel = ((sum + half) >> shift) as u8;
        }
    }
    pixels
}
