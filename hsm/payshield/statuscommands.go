package payshield

import (
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"time"
)

// firmware is what NC and NO show: nine characters that are no Thales number.
const firmware = "ACQR-0001"

// serial of a device in software, twelve characters.
const serial = "SOFTWARE0001"

// diagnostics is NC: the LMK's check value and the firmware.
func diagnostics(c *command) {
	if !c.end() {
		return
	}
	check := c.d.lmk.CheckValue()
	c.write(hexUpper(check[:]), firmware)
}

// status is NO: mode 00 buffers and connections, mode 01 whether the settings
// are those of PCI HSM, which here they never all are.
func status(c *command) {
	mode := c.text(2)
	if mode != "00" && mode != "01" {
		c.fail(BadInput)
	}
	if !c.end() {
		return
	}
	switch {
	case mode == "00":
		c.write("3", "1", "0064", firmware, "0", "0000")
	case c.d.separate:
		c.write("2")
	default:
		c.write("0")
	}
}

// echo is B2.
func echo(c *command) {
	n := c.hexNumber(4, BadInput)
	if c.failed() {
		return
	}
	if c.left() < n {
		c.fail(BadDataLength)
		return
	}
	data := c.text(n)
	if c.end() {
		c.write(data)
	}
}

// randomValue is N0: up to 256 bytes.
func randomValue(c *command) {
	n := c.number(3, BadInput)
	if !c.failed() && (n < 1 || n > 256) {
		c.fail(VerifyFailed)
	}
	if !c.end() {
		return
	}
	b := make([]byte, n)
	rand.Read(b) // never fails, ends the process instead
	c.write(string(b))
}

// stamp is a date and a time of six characters each.
func stamp(t time.Time) string { return t.UTC().Format("060102150405") }

// since writes the serial number and from when to when was counted.
func (c *command) since() {
	now := stamp(time.Now())
	c.write(serial, stamp(c.d.started), now, now)
}

func (c *command) seconds() string {
	return fmt.Sprintf("%010d", min(int64(time.Since(c.d.started)/time.Second), 9_999_999_999))
}

// loading is J2. A device in software has no load of its own to measure: all
// of the time is in the lowest step.
func loading(c *command) {
	if !c.end() {
		return
	}
	c.since()
	c.write(c.seconds(), "000100", c.seconds())
}

// volumes is J4: how often each command came.
func volumes(c *command) {
	if !c.end() {
		return
	}
	c.since()
	c.write(c.seconds())
	for _, code := range slices.Sorted(maps.Keys(c.d.volumes)) {
		if n := c.d.volumes[code].Load(); n > 0 {
			c.write(code, fmt.Sprintf("%012d", n))
		}
	}
}

// healthCounts is J8: restarts, tampers, PIN verifications that failed.
func healthCounts(c *command) {
	if !c.end() {
		return
	}
	c.since()
	c.write(fmt.Sprintf("%010d%010d%07d%05d%08d", 0, 0, 0, 0, min(c.d.wrong.Load(), 99_999_999)))
}

// health is JK: what runs, what was tampered with, which LMKs are there.
func health(c *command) {
	if !c.end() {
		return
	}
	state, tests := "L", 0
	if c.d.lmk.IsTest() {
		state, tests = "T", 2
	}
	c.write(serial, stamp(time.Now()), "2", "2", "1", "3", "0", "0", "0",
		fmt.Sprintf("02%02d00", tests),
		"00"+"0"+"00"+"V"+"0"+state+"variant", "\x14",
		"01"+"0"+"00"+"K"+"2"+state+"key block", "\x15",
		"00")
}

// cancelAuthorisation is RA. Nothing here waits for an authorised state, so
// there is none to end.
func cancelAuthorisation(c *command) { c.end() }

// chain is NK: several commands in one message, answered in one. A chain holds
// no chain.
func chain(c *command) {
	withHeader := c.char("01", BadHeader) == '1'
	n := c.number(2, BadInput)
	c.write(fmt.Sprintf("%02d", n))
	for range n {
		part := c.text(c.number(4, BadInput))
		if c.failed() {
			return
		}
		header := ""
		if withHeader {
			if len(part) < c.d.header {
				c.fail(BadHeader)
				return
			}
			header, part = part[:c.d.header], part[c.d.header:]
		}
		answer := "ZZ" + string(Disabled)
		if len(part) < 2 || part[:2] != "NK" {
			answer = string(c.d.Do(part))
		}
		answer = header + answer
		c.write(fmt.Sprintf("%04d", len(answer)), answer)
	}
	c.end()
}
