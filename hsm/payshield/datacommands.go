package payshield

import (
	"crypto/cipher"
	"crypto/subtle"
	"fmt"

	"acquirer/hsm/algo"
)

// dataKeyType reads the type of a key that data is encrypted under.
func (c *command) dataKeyType() keyType {
	switch code := c.text(3); code {
	case typeZEK.code:
		return typeZEK
	case typeDEK.code:
		return typeDEK
	case typeTEK.code:
		return typeTEK
	case anyBlock.code:
		return keyType{anyBlock.code, []string{"D0", "21", "22", "23"}}
	}
	c.fail(BadLengthFlag)
	return typeDEK
}

// The modes of M0 to M4.
const (
	modeECB   = "00"
	modeCBC   = "01"
	modeCFB8  = "02"
	modeCFB64 = "03"
)

func (c *command) cipherMode() string {
	mode := c.text(2)
	switch mode {
	case modeECB, modeCBC, modeCFB8, modeCFB64:
	default:
		c.fail(BadMode)
	}
	return mode
}

// crypt works on data in its place. The last is the state that the next
// command of the same message takes as its initial value.
func crypt(k *algo.Key, mode string, iv, data []byte, encrypt bool) (last []byte) {
	b := k.Block()
	n := b.BlockSize()
	switch mode {
	case modeECB:
		for i := 0; i < len(data); i += n {
			if encrypt {
				b.Encrypt(data[i:i+n], data[i:i+n])
			} else {
				b.Decrypt(data[i:i+n], data[i:i+n])
			}
		}
		return nil
	case modeCBC:
		if encrypt {
			cipher.NewCBCEncrypter(b, iv).CryptBlocks(data, data)
			return data[len(data)-n:]
		}
		last = append(last, data[len(data)-n:]...)
		cipher.NewCBCDecrypter(b, iv).CryptBlocks(data, data)
		return last
	}
	step := n
	if mode == modeCFB8 {
		step = 1
	}
	state, key := append([]byte(nil), iv...), make([]byte, n)
	for i := 0; i < len(data); i += step {
		b.Encrypt(key, state)
		part := data[i : i+step]
		copy(state, state[step:])
		if !encrypt {
			copy(state[n-step:], part)
		}
		subtle.XORBytes(part, part, key)
		if encrypt {
			copy(state[n-step:], part)
		}
	}
	return state
}

// fitsCipher says whether whole blocks came.
func (c *command) fitsCipher(k *algo.Key, mode string, data []byte) {
	if !c.failed() && mode != modeCFB8 && len(data)%k.Cipher().BlockSize() != 0 {
		c.fail(BadMessageLen)
	}
}

// initial reads the initial value of the modes that have one.
func (c *command) initial(k *algo.Key, mode string) []byte {
	if mode == modeECB {
		return nil
	}
	return c.hex(k.Cipher().BlockSize())
}

// result writes state, length and data.
func (c *command) result(last, data []byte, format byte) {
	if last != nil {
		c.write(hexUpper(last))
	}
	out := string(data)
	if format == dataHex {
		out = hexUpper(data)
	}
	c.write(fmt.Sprintf("%04X", len(out)), out)
}

// encryptData is M0, decryptData M2.
func encryptData(c *command) { c.crypt(true) }
func decryptData(c *command) { c.crypt(false) }

func (c *command) crypt(encrypt bool) {
	mode := c.cipherMode()
	in := c.char("012", BadComponents)
	out := c.char("012", BadKeyType)
	k := c.key(c.dataKeyType())
	iv := c.initial(k, mode)
	data := c.data(in)
	c.fitsCipher(k, mode, data)
	if !c.end() {
		return
	}
	last := crypt(k, mode, iv, data, encrypt)
	c.result(last, data, out)
	clear(data)
}

// translateData is M4: from one key to another. The answer has the state of
// both sides before the data.
func translateData(c *command) {
	from, to := c.cipherMode(), c.cipherMode()
	in := c.char("012", BadComponents)
	out := c.char("012", BadKeyType)
	source := c.key(c.dataKeyType())
	dest := c.key(c.dataKeyType())
	iv, destIV := c.initial(source, from), c.initial(dest, to)
	data := c.data(in)
	c.fitsCipher(source, from, data)
	c.fitsCipher(dest, to, data)
	if !c.end() {
		return
	}
	last := crypt(source, from, iv, data, false)
	c.write(hexUpper(last))
	c.result(crypt(dest, to, destIV, data, true), data, out)
	clear(data)
}
