package payshield

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"acquirer/hsm/algo"
)

// Device answers the host commands of a payShield in software, under one LMK.
// It holds no keys: every one comes with its command, encrypted under the LMK.
// Its methods may be called concurrently. What it differs in from the machine
// is written in docs/hsm.md.
type Device struct {
	lmk      *LMK
	separate bool
	header   int // length of message headers, of which NK may carry more
	cache    *keyCache
	started  time.Time
	total    atomic.Uint64
	volumes  map[string]*atomic.Uint64 // by command code
	wrong    atomic.Uint64             // PINs that did not verify
}

// NewDevice starts a device with an LMK. With separate the keys of type 002
// are kept apart as PCI HSM wants it: a TPK is 70D, a TMK 80D.
func NewDevice(lmk *LMK, separate bool) *Device {
	d := &Device{lmk: lmk, separate: separate, cache: newKeyCache(cachedKeys), started: time.Now(), volumes: map[string]*atomic.Uint64{}}
	for code := range handlers {
		d.volumes[code] = new(atomic.Uint64)
	}
	return d
}

// String shows the check values of the LMK.
func (d *Device) String() string { return "payShield in software, " + d.lmk.String() }

// handlers are the commands, by their code. NK, which runs others, is added by
// init: it looks up this very table.
var handlers = map[string]func(*command){
	"A0": generateKey, "A4": formKey, "A6": importKey, "A8": exportKey, "BU": checkKey,
	"CA": translateTPK, "CC": translateZPK, "DC": verifyTerminalPVV, "EC": verifyZonePVV,
	"DG": makePVV, "FW": makePVVOfBlock, "CU": changePVV,
	"DA": verifyTerminalOffset, "EA": verifyZoneOffset, "DE": makeOffset, "BK": makeOffsetOfBlock,
	"CI": translateDUKPT, "G0": translateDUKPT3, "GO": verifyDUKPTOffset, "GQ": verifyDUKPTPVV, "GW": dukptMAC,
	"CW": makeCVV, "CY": verifyCVV,
	"HC": makeTerminalKey, "HA": makeTAK, "IA": makeZPK, "FI": makeZEK,
	"FA": fromZMK(typeZPK), "FC": fromZMK(type002), "MI": fromZMK(typeTAK), "FK": zekFromZMK,
	"GC": toZMK(typeZPK), "FE": toZMK(type002), "MG": toZMK(typeTAK), "FM": zekToZMK,
	"DW": pairFromZMK(typeBDK), "DY": pairToZMK(typeBDK), "AW": pairFromZMK(typeCVK), "AU": pairToZMK(typeCVK),
	"AE": terminalKeyToTMK, "AG": takToTMK,
	"MA": makeX99, "MC": verifyX99, "ME": translateX99, "MS": makeLargeMAC, "M6": makeMAC, "M8": verifyMAC,
	"M0": encryptData, "M2": decryptData, "M4": translateData,
	"KQ": verifyARQC, "KW": verifyCommonARQC, "KU": scriptMAC, "KY": commonScriptMAC,
	"NC": diagnostics, "NO": status, "B2": echo, "N0": randomValue,
	"J2": loading, "J4": volumes, "J8": healthCounts, "JK": health, "RA": cancelAuthorisation,
}

func init() { handlers["NK"] = chain }

// Do answers one command, from its code on, without header. It never fails:
// what is wrong is an error code in the answer.
func (d *Device) Do(request string) []byte {
	d.total.Add(1)
	if len(request) < 2 {
		return []byte("ZZ" + string(BadHeader))
	}
	code := request[:2]
	answer := answerCode(code)
	run, ok := handlers[code]
	if !ok {
		return []byte(answer + string(Disabled))
	}
	d.volumes[code].Add(1)
	c := &command{d: d, in: request[2:]}
	run(c)
	c.wipe()
	out := make([]byte, 0, 4+len(c.out)+len(c.tail))
	out = append(out, answer...)
	switch {
	case c.failed():
		out = append(out, c.code...)
	case c.warning != "":
		out = append(append(out, c.warning...), c.out...)
	default:
		out = append(append(out, OK...), c.out...)
	}
	clear(c.out)
	return append(out, c.tail...)
}

// wipe clears the keys that the command took out of the LMK.
func (c *command) wipe() {
	for _, s := range c.secrets {
		clear(s)
	}
}

// cachedKeys bounds the expanded keys that are kept: expanding one costs ten
// times what a PIN translation does.
const cachedKeys = 1 << 14

// keyCache keeps expanded keys by type and field.
type keyCache struct {
	mu    sync.RWMutex
	keys  map[cacheName]*algo.Key
	limit int
}

type cacheName struct{ kind, text string }

func newKeyCache(limit int) *keyCache {
	return &keyCache{keys: make(map[cacheName]*algo.Key), limit: limit}
}

func (k *keyCache) get(kind, text string) *algo.Key {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.keys[cacheName{kind, text}]
}

// put drops another key when there is no room: any, since whoever asks again
// pays with one expansion.
func (k *keyCache) put(kind, text string, key *algo.Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.keys) >= k.limit {
		for victim := range k.keys {
			delete(k.keys, victim)
			break
		}
	}
	k.keys[cacheName{kind, strings.Clone(text)}] = key
}

// Format keeps expanded keys out of logs.
func (k *keyCache) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("expanded keys")) }
