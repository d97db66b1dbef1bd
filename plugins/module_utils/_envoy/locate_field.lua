-- Where the value of the one field "model" of a form (multipart/form-data, RFC 7578) is. Parsers of forms agree on
-- much less than those of JSON, so a form must be as programs write it: what any of them could read in another way is
-- refused. The compiler puts locate.lua before this file.
local BROKEN = "The request body is not a valid form."
local MOST_PARTS, LONGEST_HEAD = 1000, 8192
-- What a part may say of its transfer; the other ways are decoded by some parsers.
local AS_IT_IS = { ["7bit"] = true, ["8bit"] = true, binary = true }
local IN_ASCII = { ["utf-8"] = true, ["us-ascii"] = true, ["iso-8859-1"] = true }

-- The boundary that a content type tells; nil when it is no form's, or is not told in a way that all understand.
local function form_boundary(kind)
  if lower(sub(kind, 1, 19)) ~= "multipart/form-data" then return nil end
  local position, boundary, charset = 20, nil, nil
  while true do
    local _, stop, name, value = find(kind, '^[ \t]*;[ \t]*(%w+)="([%w\'()+_,./:=?-]+)"', position)
    if not stop then _, stop, name, value = find(kind, "^[ \t]*;[ \t]*(%w+)=([%w'+_.-]+)", position) end
    if not stop then break end
    name = lower(name)
    if name == "boundary" and not boundary then
      boundary = value
    elseif name == "charset" and not charset and lower(value) == "utf-8" then
      charset = value
    else
      return nil
    end
    position = stop + 1
  end
  if not boundary or #boundary > 70 or not find(kind, "^[ \t]*$", position) then return nil end
  return boundary
end

-- The content type of a form with this boundary, and nothing else that a parser may look at.
local function form_type(boundary)
  local quote = find(boundary, "[^%w'+_.-]") and '"' or ""
  return "multipart/form-data; boundary=" .. quote .. boundary .. quote
end

-- The name that the disposition of a part gives it, and whether it is a file; or nil and why not.
local function disposition(value)
  if lower(sub(value, 1, 9)) ~= "form-data" then return nil, BROKEN end
  local position, found = 10, {}
  while true do
    local _, stop, key, text = find(value, '^[ \t]*;[ \t]*([%w*]+)="([^"\\]*)"', position)
    if not stop then _, stop, key, text = find(value, "^[ \t]*;[ \t]*([%w*]+)=([%w!#$%%&'*+.^_`|~-]+)", position) end
    if not stop then break end
    key = lower(key)
    if found[key] or (key ~= "name" and key ~= "filename" and key ~= "filename*") then return nil, BROKEN end
    found[key] = text
    position = stop + 1
  end
  local name = found.name
  if not name or not find(value, "^[ \t]*$", position) then return nil, BROKEN end
  -- Frameworks make of "model[]", "[model]" or "model.x" a model, too; "_charset_" says how to read the others.
  if not find(name, "^[%w_.%[%]-]+$") or name == "_charset_" then return nil, BROKEN end
  if name ~= "model" and lower(string.match(name, "^%[*([^%[%].]*)")) == "model" then
    return nil, "The form must have exactly one 'model'."
  end
  return name, found.filename ~= nil or found["filename*"] ~= nil
end

-- Whether the value of a field of this content type is read as it is.
local function is_plain(kind)
  local charset = string.match(kind, '^text/plain[ \t]*;[ \t]*charset="?([%w-]+)"?$')
  return kind == "text/plain" or IN_ASCII[charset or ""] == true
end

-- The name of the part whose headers these are, and whether it is a field with plain text; or nil and why not.
local function part(head)
  local name, is_file, kind = nil, nil, nil
  for line in string.gmatch(head .. "\r\n", "(.-)\r\n") do
    local key, value = string.match(line, "^([%w!#$%%&'*+.^_`|~-]+):[ \t]*([^%c]*)$")
    if not key then return nil, BROKEN end
    key, value = lower(key), string.match(value, "^(.-)[ \t]*$")
    if key == "content-disposition" then
      if name then return nil, BROKEN end
      name, is_file = disposition(value)
      if not name then return nil, is_file end
    elseif key == "content-type" then
      if kind then return nil, BROKEN end
      kind = lower(value)
      if find(kind, "^multipart/") or find(kind, "^message/") then return nil, BROKEN end
    elseif key == "content-transfer-encoding" and not AS_IT_IS[lower(value)] then
      return nil, BROKEN
    end
  end
  if not name then return nil, BROKEN end
  return name, not is_file and (not kind or is_plain(kind))
end

-- First and last position of the value; or nil and why there is none.
local function locate_field(text, boundary)
  local mark = "--" .. boundary
  if sub(text, 1, #mark + 2) ~= mark .. "\r\n" then return nil, BROKEN end
  local position, parts, first, last = #mark + 3, 0, nil, nil
  while true do
    parts = parts + 1
    if parts > MOST_PARTS then return nil, "The form has too many parts." end
    -- Wherever else the mark stands, some parser might see a boundary.
    local at = find(text, mark, position, true)
    local head_end = at and find(sub(text, position, position + LONGEST_HEAD), "\r\n\r\n", 1, true)
    if not head_end then return nil, BROKEN end
    local content = position + head_end + 3
    if at < content + 2 or sub(text, at - 2, at - 1) ~= "\r\n" then return nil, BROKEN end
    local name, plain = part(sub(text, position, position + head_end - 2))
    if not name then return nil, plain end
    if name == "model" then
      if first then return nil, "The form must have exactly one 'model'." end
      if not plain then return nil, "'model' must be a field of plain text." end
      first, last = content, at - 3
    end
    position = at + #mark + 2
    local after = sub(text, position - 2, position - 1)
    if after == "--" then break end
    if after ~= "\r\n" then return nil, BROKEN end
  end
  local rest = sub(text, position, position + 2)
  if rest ~= "" and rest ~= "\r\n" then return nil, BROKEN end
  if not first then return nil, "You must provide a model parameter." end
  return first, last
end

-- The body with another name of the model, which is at `first` to `last`; nil where that would end a part of a form.
local function renamed(text, first, last, name, boundary)
  if boundary and find(name, "--" .. boundary, 1, true) then return nil end
  return sub(text, 1, first - 1) .. name .. sub(text, last + 1)
end
